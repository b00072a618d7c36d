"""Damaged and hostile files of weights, each made from a sound one: `CASES`, by name."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
from helpers.pickle_writer import (
    Build,
    Call,
    Global,
    Parts,
    Raw,
    Reference,
    Touch,
    code_of,
    pickled,
)


def pystate(value):
    """A `.pystate` with any value in it."""
    return lambda sound: {'x.pystate': pickled(value)}


def changed(**arrays):
    """A sound `.pystate` with other arrays; None leaves one out."""

    def make(sound):
        tree = pickle.loads(sound['x.pystate'])
        for place, change in arrays.items():
            module = {
                'latents': 'encoder/~/trainable_position_encoding',
                'output': 'multimodal_decoder/~/basic_decoder/output',
                'extra': 'encoder/~/extra',
            }[place]
            leaves = tree.setdefault(module, {'w': np.zeros((2, 2), np.float32)})
            name = next(iter(leaves))
            leaves[name] = change(leaves[name])
            if leaves[name] is None:
                del leaves[name]
        return {'x.pystate': pickle.dumps(tree), 'x.json': sound['x.json']}

    return make


def with_first(value):
    def change(array):
        array = array.copy()
        array.flat[0] = value
        return array

    return change


DTYPE = Build(
    Call(Global('numpy', 'dtype'), ('f4', False, True)), (3, '<', None, None, None, -1, -1, 0)
)
EMPTY = Call(
    Global('numpy._core.multiarray', '_reconstruct'), (Global('numpy', 'ndarray'), (0,), b'b')
)


def array(shape=(1,), dtype=DTYPE, data=b'\0\0\0\0', fortran=False):
    return Build(EMPTY, (1, shape, dtype, fortran, data))


def leaf(value):
    return pystate({'module': {'w': value}})


def named(dtype):
    """A dtype by its code."""
    return Call(Global('numpy', 'dtype'), (dtype, False, True))


def torch_zip(
    sound=None,
    *,
    tree=None,
    extra=(),
    storages=None,
    compression=zipfile.ZIP_STORED,
    byteorder=b'little',
    leave_out=(),
):
    """What `torch.save` writes for a state dict of {name: array}, or for any `tree`."""
    arrays = {} if sound is None else sound['arrays']
    storages = dict(storages or {})
    if tree is None:
        tree = {}
        for key, (name, value) in enumerate(arrays.items()):
            storages[str(key)] = value.tobytes()
            tree[name] = tensor(str(key), value.size, value.shape)
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', compression) as archive:
        entries = {'data.pkl': pickled(tree), 'byteorder': byteorder, 'version': b'3\n'}
        entries |= {f'data/{key}': data for key, data in storages.items()}
        for name, data in [*entries.items(), *extra]:
            if name not in leave_out:
                archive.writestr(f'archive/{name}', data)
    return out.getvalue()


def declaring(size, archive):
    """A zip whose directory gives its first entry another size."""
    place = archive.index(b'PK\x01\x02') + 24
    return archive[:place] + struct.pack('<I', size) + archive[place + 4 :]


def tensor(key, count, shape, *, strides=None, offset=0, kind='FloatStorage'):
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    storage = Reference(('storage', Global('torch', kind), key, 'cpu', count))
    return Call(
        Global('torch._utils', '_rebuild_tensor_v2'),
        (storage, offset, shape, strides, False, Call(Global('collections', 'OrderedDict'), ())),
    )


def torch_file(**arguments):
    return lambda sound: {
        'pytorch_model.bin': torch_zip(None if 'tree' in arguments else sound, **arguments)
    }


def one_tensor(*arguments, **keywords):
    """A file of one tensor over 16 bytes."""
    return torch_file(tree={'x': tensor(*arguments, **keywords)}, storages={'0': bytes(16)})


def safetensors(header, data=b'', length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda sound: {
        'model.safetensors': struct.pack('<Q', len(text) if length is None else length)
        + text
        + data
    }


def entry(shape=(1,), start=0, end=4, dtype='F32'):
    return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [start, end]}


def resaved(change):
    """A sound safetensors file with its state dict changed."""

    def make(sound):
        from safetensors.numpy import save

        return {
            'model.safetensors': save(change(dict(sound['arrays']))),
            'config.json': sound['config.json'],
        }

    return make


def cut(name, part):
    """The first part of a sound file."""
    return lambda sound: {name: sound[name][: int(part * len(sound[name]))]}


def renamed(old, new):
    return lambda sound: {new: sound[old]}


def facts(name, change):
    """Sound weights beside a JSON file that is not."""

    def make(sound):
        beside = {'x.pystate': 'x.json', 'model.safetensors': 'config.json'}[name]
        value = change(json.loads(sound[beside]))
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return {name: sound[name], beside: text}

    return make


def deeper(values, *path, value):
    """`values` with another value at a place in it."""
    here = values
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return values


def nested(depth):
    return [nested(depth - 1)] if depth else []


def run_with(**texts):
    """A folder like that of a run, with these files in it."""
    return lambda sound: {name.replace('_', '.'): text for name, text in texts.items()}


TOUCH = Touch()
# (x, x), ((x, x), (x, x)) and so on: 2**60 of them, by way of the memo.
DOUBLED = Raw(
    code_of('x')
    + b''.join(b'q' + bytes([place]) + b'h' + bytes([place]) + b'\x86' for place in range(60))
)

PICKLES = {
    'calls os.system': ('posix.system', leaf(Call(Global('posix', 'system'), (TOUCH,)))),
    'calls eval': ('builtins.eval', leaf(Call(Global('builtins', 'eval'), (TOUCH,)))),
    'calls getattr': ('builtins.getattr', leaf(Call(Global('builtins', 'getattr'), (DTYPE, 'x')))),
    'imports a module': ('antigravity', leaf(Call(Global('antigravity', 'x'), ()))),
    'calls it by INST': ('INST', leaf(Parts((Raw(b'('), TOUCH, Raw(b'iposix\nsystem\n'))))),
    'calls it by OBJ': ('posix.system', leaf(Parts((Raw(b'(cposix\nsystem\n'), TOUCH, Raw(b'o'))))),
    'calls it by NEWOBJ': ('NEWOBJ', leaf(Raw(b'cnumpy\nndarray\n)\x81'))),
    'calls it by NEWOBJ_EX': ('NEWOBJ_EX', leaf(Raw(b'cnumpy\nndarray\n)}\x92'))),
    'goes through an attribute': (
        '_reconstruct.__globals__',
        leaf(
            Call(
                Raw(
                    code_of('numpy._core.multiarray')
                    + code_of('_reconstruct.__globals__.get')
                    + b'\x93'
                ),
                ('os',),
            )
        ),
    ),
    'extension registry': ('EXT1', leaf(Raw(b'\x82\x01'))),
    'calls a dict': ('damaged', leaf(Call({}, (TOUCH,)))),
    'calls a string': ('damaged', leaf(Call('posix.system', (TOUCH,)))),
    'a name as an array': ('is not an array', leaf(Global('numpy', 'ndarray'))),
    'sets a state on a name': (
        'damaged',
        leaf(Build(Global('numpy._core.multiarray', '_reconstruct'), (None, {'__code__': TOUCH}))),
    ),
    'sets __setstate__': (
        'is not an array',
        leaf(Build(Call(Global('collections', 'OrderedDict'), ()), {'__setstate__': TOUCH})),
    ),
    'an ndarray of any size': (
        'numpy.ndarray',
        leaf(Call(Global('numpy', 'ndarray'), ((2**34,),))),
    ),
    'an object array': ("dtype '<O8'", leaf(array(dtype=named('O8'), data=bytes(8)))),
    'structured dtype': ('damaged', leaf(array(dtype=Call(Global('numpy', 'dtype'), ({},))))),
    'more elements than bytes': ('has 4 bytes', leaf(array(shape=(2**39,)))),
    'a negative size': ('no shape', leaf(array(shape=(-1,)))),
    'no bytes': ('damaged', leaf(array(data='text'))),
    'an array without a state': ('is not an array', leaf(EMPTY)),
    'its arrays share bytes': (
        'larger than the file',
        pystate(
            {
                'module': [
                    (
                        f'w{index}',
                        array((500, 500), data=Raw(b'h\0'), fortran=True)
                        if index
                        else array(
                            (500, 500), data=Raw(code_of(bytes(10**6)) + b'\x94'), fortran=True
                        ),
                    )
                    for index in range(50)
                ]
            }
        ),
    ),
    'bytes that are not there': ('damaged', leaf(Raw(b'\x8e' + struct.pack('<Q', 2**62)))),
    'a memo that is not there': ('damaged', leaf(Raw(b'j\xff\xff\xff\x7f'))),
    'an empty stack': ('damaged', leaf(Raw(b'R'))),
    'no mark': ('damaged', lambda sound: {'x.pystate': b'\x80\x04t.'}),
    'a million marks': ('damaged', lambda sound: {'x.pystate': b'\x80\x04' + b'(' * 10**6 + b'.'}),
    'a key without a value': ('damaged', pystate(Parts((Raw(b'}('), 'module', Raw(b'u'))))),
    'something left over': (
        'damaged',
        lambda sound: {
            'x.pystate': b'\x80\x04' + code_of(1) + code_of({'module': {'w': array()}}) + b'.'
        },
    ),
    'deep nesting': (
        'is not {name: array}',
        pystate({'module': Raw(b'X\x01\0\0\0x' + b'\x85' * 10**5)}),
    ),
    'a key that takes forever': ('not a string', pystate([(DOUBLED, 1)])),
    'a number as key': ('not a string', pystate({1: {}})),
    'a key twice': ("'w' twice", pystate({'module': [('w', array()), ('w', array())]})),
    'refers outside': ('data outside it', leaf(Reference(('storage',)))),
    'a tuple': ('not {module', pystate((1, 2))),
    'an array on top': ('is not {name: array}', pystate({'module': array()})),
    'a number for an array': ('is not an array', leaf(3)),
    'nothing in it': ('holds no arrays', pystate({})),
    'a name of two lines': (r"'a\\nb.c'", leaf(Raw(code_of('a\nb') + code_of('c') + b'\x93'))),
    'protocol 0': ("'os.system'", lambda sound: {'x.pystate': b"cos\nsystem\n(S'true'\ntR."}),
    'protocol 0, in a dict': (
        "'os.system'",
        lambda sound: {'x.pystate': b'(Va\nVtrue\np1\ncos\nsystem\n(g1\ntRd.'},
    ),
    'neither a pickle nor anything': (
        'format is not known',
        lambda sound: {'x.pystate': b'GIF89a' * 9},
    ),
    'a million instructions': (
        'more than 1,000,000 instructions',
        lambda sound: {'x.pystate': b'\x80\x04' + b'N' * 10**6 + b'.'},
    ),
    'many layers of nothing': (
        r"'encoder/~/self_attention_10/\S+' is absent",
        lambda sound: {
            'x.pystate': pickle.dumps(
                pickle.loads(sound['x.pystate'])
                | {f'encoder/~/self_attention_{index}/mlp/linear': {} for index in range(2, 900)}
            )
        },
    ),
    'after its end': (
        'follow the end',
        lambda sound: {
            'x.pystate': sound['x.pystate'] + pickled(Call(Global('posix', 'system'), (TOUCH,)))
        },
    ),
    'an empty file': ('not a pickle', lambda sound: {'x.pystate': b''}),
    'half a pickle': ('damaged', cut('x.pystate', 0.5)),
    'a pickle without its end': ('damaged', lambda sound: {'x.pystate': sound['x.pystate'][:-1]}),
}

WEIGHTS = {
    'NaN': ('NaN', changed(latents=with_first(np.nan))),
    'infinity': ('NaN or infinity', changed(latents=with_first(-np.inf))),
    'float64': ('f8', changed(latents=lambda x: x.astype(np.float64))),
    'float16': ('f2', changed(latents=lambda x: x.astype(np.float16))),
    'integers': ('i4', changed(latents=lambda x: x.astype(np.int32))),
    'a missing array': ('lacks encoder/~/train', changed(latents=lambda x: None)),
    'an array too many': (
        "'encoder/~/extra/w' is .2, 2. and should be absent",
        changed(extra=lambda x: x),
    ),
    'another shape': (
        r"output/b' is \(19,\) and should be \(18,\)|output/w' is",
        changed(output=lambda x: np.zeros([n + 1 for n in x.shape], np.float32)),
    ),
    'a vector for a matrix': ('has the shape', changed(latents=np.ravel)),
    'no latents': ('has the shape', changed(latents=lambda x: x[:, :0])),
    'another model of Haiku': ('neither a multimodal', pystate({'linear': {'w': array()}})),
    'zip named .pystate': ('zip archive.*name it .bin', renamed('pytorch_model.bin', 'x.pystate')),
    'safetensors named .pystate': ('safetensors', renamed('model.safetensors', 'x.pystate')),
    'pickle named .safetensors': ('a pickle; name it', renamed('x.pystate', 'model.safetensors')),
    'pickle named .bin': ('not a zip archive', renamed('x.pystate', 'pytorch_model.bin')),
    'an unknown ending': ('must end in one of', renamed('x.pystate', 'x.npz')),
}

TORCH = {
    'torch: calls os.system': (
        'posix.system',
        torch_file(tree={'x': Call(Global('posix', 'system'), (TOUCH,))}),
    ),
    'torch: a path for a key': ('not a tensor', one_tensor('../../../etc/passwd', 4, (4,))),
    'torch: no such storage': ("lacks 'data/1'", one_tensor('1', 4, (4,))),
    'torch: more than the storage': ('another number', one_tensor('0', 5, (5,))),
    'torch: beyond the storage': ('beyond its 4', one_tensor('0', 4, (4,), offset=1)),
    'torch: before the storage': ('damaged', one_tensor('0', 4, (4,), offset=-1)),
    'torch: strides beyond': ('beyond its 4', one_tensor('0', 4, (2, 2), strides=(3, 1))),
    'torch: expanded without end': (
        'beyond its 4',
        one_tensor('0', 4, (2**30, 2**30), strides=(0, 0)),
    ),
    'torch: strides missing': ('damaged', one_tensor('0', 4, (2, 2), strides=(1,))),
    'torch: half precision': ('HalfStorage', one_tensor('0', 8, (8,), kind='HalfStorage')),
    'torch: a storage called': (
        'calls a storage',
        torch_file(tree={'x': Call(Global('torch', 'FloatStorage'), (2**40,))}),
    ),
    'torch: no storage': ('not a tensor', torch_file(tree={'x': Reference(('module', TOUCH))})),
    'torch: a dict for a tensor': ('not a tensor', torch_file(tree={'x': {}})),
    'torch: compressed': ('compressed', torch_file(compression=zipfile.ZIP_DEFLATED)),
    'torch: more bytes than the file': (
        'declares more bytes',
        lambda sound: {'pytorch_model.bin': declaring(2**31, sound['pytorch_model.bin'])},
    ),
    'torch: two of a name': ('two entries', torch_file(extra=[('data/0', b'\0' * 16)])),
    'torch: two pickles': ('no data.pkl', torch_file(extra=[('a/data.pkl', b'.')])),
    'torch: no pickle': ('no data.pkl', torch_file(leave_out=['data.pkl'])),
    'torch: big-endian': ('big-endian', torch_file(byteorder=b'big')),
    'torch: half a zip': ('damaged zip', cut('pytorch_model.bin', 0.5)),
    'torch: another checksum': (
        'damaged',
        lambda sound: {
            'pytorch_model.bin': sound['pytorch_model.bin'].replace(
                next(iter(sound['arrays'].values())).tobytes(), b'\0' * 384, 1
            )
        },
    ),
    'torch: of another model': ('it lacks', one_tensor('0', 4, (4,))),
    'torch: a bare pickle': (
        "'posix.system'",
        lambda sound: {'pytorch_model.bin': pickled(Call(Global('posix', 'system'), (TOUCH,)))},
    ),
    'torch: thirty thousand entries': (
        'far more entries',
        torch_file(tree={}, extra=[(f'{index}' * 20, b'') for index in range(30_000)]),
    ),
    'torch: before 1.6': ('since 1.6', lambda sound: {'pytorch_model.bin': pickle.dumps(1, 2)}),
}

SAFETENSORS = {
    'safetensors: empty': ('not a safetensors', safetensors(b'')),
    'safetensors: no JSON': ('damaged', safetensors(b'{oh no')),
    'safetensors: a long header': ('damaged', safetensors({}, length=2**40)),
    'safetensors: a header too long for memory': ('damaged', safetensors({}, length=2**63)),
    'safetensors: a million names': (
        'header is too long',
        safetensors({f'{index:0>99}': entry((0,), 0, 0) for index in range(60_000)}),
    ),
    'safetensors: beyond the file': ('damaged', safetensors({'x': entry((9,), 0, 36)}, b'\0' * 4)),
    'safetensors: a hole': ('damaged', safetensors({'x': entry(start=4, end=8)}, b'\0' * 8)),
    'safetensors: an overlap': (
        'damaged',
        safetensors({'x': entry((2,), 0, 8), 'y': entry((1,), 4, 8)}, b'\0' * 8),
    ),
    'safetensors: bytes left over': ('damaged', safetensors({'x': entry()}, b'\0' * 8)),
    'safetensors: backwards': ('damaged', safetensors({'x': entry(start=4, end=0)}, b'\0' * 4)),
    'safetensors: overflowing sizes': (
        'damaged',
        safetensors({'x': entry((2**32, 2**32), 0, 4)}, b'\0' * 4),
    ),
    'safetensors: bfloat16': ('BF16', safetensors({'x': entry((2,), dtype='BF16')}, b'\0' * 4)),
    'safetensors: an unknown dtype': ('damaged', safetensors({'x': entry(dtype='O8')}, b'\0' * 4)),
    'safetensors: half a file': ('damaged', cut('model.safetensors', 0.5)),
    'safetensors: an array missing': (
        'it lacks',
        resaved(lambda arrays: dict(list(arrays.items())[1:])),
    ),
    'safetensors: an array too many': (
        "holds 'x'",
        resaved(lambda arrays: arrays | {'x': np.zeros(2, np.float32)}),
    ),
    'safetensors: a vector for a matrix': (
        'should be a matrix',
        resaved(
            lambda arrays: {
                name: value.ravel() if name.endswith('query.weight') else value
                for name, value in arrays.items()
            }
        ),
    ),
    'safetensors: NaN': (
        'NaN',
        resaved(
            lambda arrays: {name: value * np.float32(np.nan) for name, value in arrays.items()}
        ),
    ),
}

CONFIGS = {
    'facts: no JSON': ('is not JSON', facts('x.pystate', lambda values: b'{oh no')),
    'facts: deep JSON': ('is not JSON', facts('x.pystate', lambda values: b'[' * 10**5)),
    'facts: a list': ('must hold a group of keys', facts('x.pystate', lambda values: [1])),
    'facts: others than the arrays': (
        'says latents=9, and the arrays 6',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'latents', value=9)),
    ),
    'facts: an unknown key': (
        'no key model.latent',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'latent', value=9)),
    ),
    'facts: text for a number': (
        'must be of type int',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'frames', value='3')),
    ),
    'facts: modalities it has not': (
        "says modalities=..video', 'audio', 'label'",
        lambda sound: {
            'x.pystate': pickle.dumps(
                {
                    module: leaves
                    for module, leaves in pickle.loads(sound['x.pystate']).items()
                    if 'audio' not in module
                }
            ),
            'x.json': sound['x.json'],
        },
    ),
    'facts: deep nesting': (
        r'latents=\[\[\[',
        facts(
            'x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'latents', value=nested(500))
        ),
    ),
    'facts: deep nesting of what arrays do not tell': (
        'must be of type int',
        facts(
            'x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'frames', value=nested(500))
        ),
    ),
    'facts: no step': (
        'must be a number of steps',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'step', value=-1)),
    ),
    'facts: a clip without end': (
        'fewer than 2..31 pixels',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'height', value=2**33)),
    ),
    'facts: blocks without end': (
        'blocks=1000000 times self_attends=2 must',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'blocks', value=10**6)),
    ),
    'facts: no frames in a second': (
        'frame_rate=0 must be a whole number in',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'frame_rate', value=0)),
    ),
    'facts: frames without end': (
        'frame_rate=1000000 must be a whole number in',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'frame_rate', value=10**6)),
    ),
    'facts: no names': (
        'must be a list of names',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'classes', value=[1])),
    ),
    'facts: names of two lines': (
        'must be a list of names',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'classes', value=['a\nb'])),
    ),
    'facts: an impossible model': (
        'must be divisible',
        facts('x.pystate', lambda v: deeper(v, 'perceiver_io', 'model', 'decoder_heads', value=5)),
    ),
    'facts: another patch': (
        'patches have 16 pixels',
        facts(
            'x.pystate',
            lambda v: deeper(v, 'perceiver_io', 'model', 'video_patch', value=[1, 2, 4]),
        ),
    ),
    'config: of another size': (
        'says latents=256',
        facts('model.safetensors', lambda values: {'model_type': 'perceiver'}),
    ),
    'config: no JSON': ('is not JSON', facts('model.safetensors', lambda values: b'\xff\xfe')),
    'run: no JSON': ('config.json is damaged', run_with(config_json=b'{oh no', classes_json=b'[]')),
    'run: deep JSON': (
        'config.json is damaged',
        run_with(config_json=b'[' * 10**5, classes_json=b'[]'),
    ),
    'run: a list': ('config.json is damaged', run_with(config_json=b'[]', classes_json=b'[]')),
    'run: unknown key': (
        'model and data must be groups',
        run_with(config_json=b'{"modell": {}}', classes_json=b'[]'),
    ),
    'run: no checkpoint': (
        'no finished checkpoint',
        run_with(config_json=b'{"model": {}}', classes_json=b'["a"]'),
    ),
    'run: a config of another program': (
        'not the folder of a run.* no classes.json',
        run_with(config_json=b'{"model_type": "bert"}'),
    ),
    'run: nothing': ('not the folder of a run', run_with(readme=b'hello')),
}

CASES = PICKLES | WEIGHTS | TORCH | SAFETENSORS | CONFIGS
