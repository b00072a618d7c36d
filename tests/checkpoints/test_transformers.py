"""Outputs beside those of the transformers library's own class, with random weights.

Needs requirements-transformers.txt. The library's images are [b, t, c, h, w]; it always hides the
label, and answers only the queries that it is asked for (without `subsampled_output_points` it
fails).
"""

import hashlib
import http.server
import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from helpers import placed
from helpers.golden_files import random_parameter
from helpers.runs import ROOT

import perceiver_io
from perceiver_io.checkpoints import loading, writing
from perceiver_io.convert import convert
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.network.position_encoding import (
    LINSPACE,
    SUBSAMPLED,
    TORCH,
    FourierPositionEncoding,
)
from perceiver_io.training.initialization.placement import Placement
from perceiver_io.training.optimizer import OptimizerConfig
from perceiver_io.training.steps import SamplingConfig

torch = pytest.importorskip('torch', reason='needs requirements-transformers.txt')
transformers = pytest.importorskip('transformers', reason='needs requirements-transformers.txt')
modeling_perceiver = pytest.importorskip('transformers.models.perceiver.modeling_perceiver')

# The library has 32 and 192 bands and patches of 4 x 4 written into its code, so tiny is not so
# tiny. No two of these sizes are the same.
TINY = dict(
    num_latents=10,
    d_latents=24,
    num_blocks=2,
    num_self_attends_per_block=3,
    num_self_attention_heads=4,
    num_cross_attention_heads=2,
    self_attention_widening_factor=2,
    cross_attention_widening_factor=3,
    num_frames=3,
    audio_samples_per_frame=350,
    samples_per_patch=35,
    image_size=5,
    output_shape=[1, 3, 20, 20],
    output_num_channels=28,
    _label_trainable_num_channels=36,
    num_labels=9,
)
FULL = dict(
    num_latents=784,
    d_latents=512,
    d_model=704,
    num_blocks=1,
    num_self_attends_per_block=8,
    num_self_attention_heads=8,
    num_cross_attention_heads=1,
    num_labels=700,
)


def make_theirs(act, **sizes):
    """Their model; every parameter is far from its initial value, so that no swap can hide."""
    torch.manual_seed(0)
    model = transformers.PerceiverForMultimodalAutoencoding(
        transformers.PerceiverConfig(hidden_act=act, **sizes)
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) * scale_of(name, parameter))
            if 'layernorm' in name and name.endswith('weight'):
                parameter += 1
    return model


def scale_of(name, parameter):
    """Of the noise: that of the golden files."""
    if parameter.ndim == 2 and name.endswith('weight'):
        return parameter.shape[1] ** -0.5
    return 0.1 if name.endswith(('weight', 'bias')) else 0.5


def differences(folder, theirs, attention, batch):
    """Per modality, the largest difference of the two models' answers to the same queries."""
    loaded = loading.load_checkpoint(folder)
    config = loaded.config
    rng = np.random.default_rng(1)
    video = rng.random((batch, *config.video_shape, 3), np.float32)
    audio = rng.random((batch, config.samples, 1), np.float32) * 2 - 1
    video_index = rng.choice(config.frames * config.height * config.width, 300, replace=False)
    audio_index = rng.choice(config.audio_patches, min(config.audio_patches, 60), replace=False)
    with torch.no_grad():
        answers = theirs(
            inputs={
                'image': torch.from_numpy(video.transpose(0, 1, 4, 2, 3).copy()),
                'audio': torch.from_numpy(audio),
                'label': torch.zeros((batch, config.classes)),
            },
            subsampled_output_points={
                'image': torch.from_numpy(video_index),
                'audio': torch.from_numpy(audio_index),
                'label': None,
            },
        ).logits
    ours = perceiver_io.Autoencoder(type(config)(**vars(config) | {'attention': attention}))
    with jax.default_matmul_precision('highest'):
        latents = ours.encode(loaded.params, video=video, audio=audio)
        output = ours.decode(
            loaded.params, latents, video_index=video_index, audio_index=audio_index
        )
    found = {}
    for name, value in (('image', output.video), ('audio', output.audio), ('label', output.label)):
        expected = answers[name].numpy().reshape(value.shape)
        assert expected.std() > 0.1
        found[name] = float(abs(value - expected).max())
    print(f'{config.latents} latents, {attention}, {config.gelu}: {found}')
    return found


@pytest.fixture(scope='module', params=['gelu', 'gelu_new'])
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('theirs')
    model = make_theirs(request.param, **TINY)
    model.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize('attention', ['plain', 'exact'])
def test_tiny(tiny, attention):
    folder, theirs = tiny
    assert (
        loading.load_checkpoint(folder).config.gelu
        == {'gelu': 'exact', 'gelu_new': 'tanh'}[theirs.config.hidden_act]
    )
    assert max(differences(folder, theirs, attention, batch=2).values()) < 5e-5


@pytest.mark.parametrize('act', ['gelu', 'gelu_new'])
def test_full_size(act, tmp_path):
    theirs = make_theirs(act, **FULL)
    theirs.save_pretrained(tmp_path)
    config = loading.load_checkpoint(tmp_path).config
    assert config == perceiver_io.AutoencoderConfig(
        gelu={'gelu': 'exact', 'gelu_new': 'tanh'}[act],
        video_max_resolution=(16, 56, 56),
        position_rounding='torch',
    )
    for attention in ('plain', 'exact'):
        assert max(differences(tmp_path, theirs, attention, batch=1).values()) < 5e-5


@pytest.mark.parametrize(
    ('shape', 'bands', 'resolution'),
    [((1920,), 192, (30_720,)), ((16, 56, 56), 32, (16, 56, 56)), ((3, 1, 7), 5, (3, 1, 9))],
)
def test_position_codes(shape, bands, resolution):
    """The highest audio bands are sin(pi 15360 x): float32 rounds the argument, each library in its
    own way, and the codes differ by up to 1e-2.
    """
    encoding = FourierPositionEncoding(shape, bands, resolution, TORCH)
    places = modeling_perceiver.build_linear_positions(shape).reshape(-1, len(shape))
    indices = torch.stack(torch.unravel_index(torch.arange(encoding.size), shape), 1)
    chosen = -1 + 2 * indices / torch.tensor(shape)
    for grid, position in ((LINSPACE, places), (SUBSAMPLED, chosen)):
        expected = modeling_perceiver.generate_fourier_features(position[None], bands, resolution)
        assert abs(encoding.dense(grid) - expected[0].numpy()).max() < 2e-7


def test_pytorch_model_bin_is_the_same(tiny, tmp_path):
    """A file of `torch.save`, as the hub has it, read without torch."""
    folder, theirs = tiny
    (tmp_path / 'config.json').write_bytes((folder / 'config.json').read_bytes())
    torch.save(theirs.state_dict(), tmp_path / 'pytorch_model.bin')
    ours, expected = (loading.load_checkpoint(path) for path in (tmp_path, folder))
    assert ours.config == expected.config
    jax.tree.map(np.testing.assert_array_equal, ours.params, expected.params)
    jax.tree.map(
        np.testing.assert_array_equal,
        ours.params,
        loading.load_checkpoint(tmp_path / 'pytorch_model.bin').params,
    )


def test_parts_of_storages_and_parameters_are_read(tmp_path):
    """What `torch.save` can make of tensors: views, transposes, parameters, shared storages."""
    from perceiver_io.checkpoints.formats.torch_file import read_torch

    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        'whole': whole,
        'part': whole[1:3, 2:5],
        'turned': whole.T,
        'parameter': torch.nn.Parameter(whole[:, :2].clone()),
        'number': torch.tensor(3.0),
    }
    torch.save(tensors, tmp_path / 'x.bin')
    arrays = read_torch(tmp_path / 'x.bin')
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(arrays[name], tensor.detach().numpy())


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers for files of a model as the Hugging Face hub does."""

    files: dict = {}

    def do_GET(self):
        data = self.files.get(self.path.removeprefix('/some/model/resolve/main/'))
        self.send_response(404 if data is None else 200)
        if data is None:
            self.send_header('X-Error-Code', 'EntryNotFound')
        else:
            self.send_header('ETag', f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header('X-Repo-Commit', '0' * 40)
        self.send_header('Content-Length', str(len(data or b'')))
        self.end_headers()
        if data is not None and self.command == 'GET':
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize('weights', ['model.safetensors', 'pytorch_model.bin', 'none'])
def test_a_name_on_the_hub(tiny, tmp_path, weights):
    folder, theirs = tiny
    torch.save(theirs.state_dict(), tmp_path / 'pytorch_model.bin')
    Hub.files = {'config.json': (folder / 'config.json').read_bytes()}
    if weights != 'none':
        source = tmp_path if weights == 'pytorch_model.bin' else folder
        Hub.files[weights] = (source / weights).read_bytes()
    code = (
        'from perceiver_io import cli\nfrom perceiver_io.checkpoints import loading\n'
        'cli.run(lambda _: print(loading.load_checkpoint("some/model").config))'
    )
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, '-c', code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            env=os.environ
            | {
                'HF_ENDPOINT': f'http://127.0.0.1:{hub.server_port}',
                'HF_HOME': str(tmp_path / 'home'),
                'JAX_PLATFORMS': 'cpu',
            },
        )
        hub.shutdown()
    if weights == 'none':
        assert done.returncode == 1
        assert 'error: some/model on the Hugging Face hub has none of' in done.stderr
    else:
        assert done.stdout.strip() == str(loading.load_checkpoint(folder).config), done.stderr[
            -2000:
        ]


def random_parameters(config):
    shapes = jax.eval_shape(perceiver_io.Autoencoder(config).init, jax.random.key(0))
    return {
        module: {
            name: random_parameter(f'{module}/{name}', leaf.shape, seed=0)
            for name, leaf in leaves.items()
        }
        for module, leaves in shapes.items()
    }


def trained_parameters(config):
    """After 20 steps of Muon from the placed start."""
    _, params = placed.train(
        config,
        OptimizerConfig('muon', learning_rate=0.01, adam_learning_rate=2e-3, clip_norm=1.0),
        20,
        Placement(),
        LossWeights(4.0, 3.0, 0.1),
        SamplingConfig(video_queries=128, audio_queries=6, label_masked=0.0),
    )
    return params


@pytest.mark.parametrize('make', [random_parameters, trained_parameters])
def test_they_load_what_we_write(make, tmp_path):
    """From this project's parameters to their class, every name found and used."""
    config = perceiver_io.AutoencoderConfig(
        frames=2,
        height=16,
        width=16,
        samples_per_frame=48,
        classes=5,
        latents=6,
        latent_channels=16,
        self_attends=2,
        self_attention_heads=2,
        decoder_channels=20,
        label_query_channels=12,
        initialization='placed' if make is trained_parameters else 'original',
    )
    params = make(config)
    writing.write_pystate(
        tmp_path / 'x.pystate',
        perceiver_io.Checkpoint(config, params, tuple('abcde'), step=1),
    )
    convert(tmp_path / 'x.pystate', tmp_path / 'library' / 'model.safetensors')
    theirs, report = transformers.PerceiverForMultimodalAutoencoding.from_pretrained(
        tmp_path / 'library', output_loading_info=True
    )
    assert not any(report.values()), report
    assert theirs.config.id2label[4] == 'e' and theirs.config.hidden_act == 'gelu_new'
    found = differences(tmp_path / 'library', theirs.eval(), 'exact', batch=2)
    assert max(found.values()) < 5e-5
