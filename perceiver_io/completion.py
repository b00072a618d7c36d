"""Prints a script that completes commands, flags and names of configs and sweeps in a shell.

source <(perceiver-io completion bash)
source <(perceiver-io completion zsh)
"""

import importlib
from collections.abc import Sequence

from perceiver_io import cli
from perceiver_io.core.errors import UsageError
from perceiver_io.sweeps import points

_SCRIPT = """\
_perceiver_io() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" names=""
  # bash takes `=` as a word of its own.
  [[ $before == = ]] && before="${{COMP_WORDS[COMP_CWORD-2]}}"
  [[ $word == = ]] && word=""
  if [[ $COMP_CWORD == 1 ]]; then
    names="{commands} --help --version"
  elif [[ $before == --config ]]; then
    names="{configs}"
  elif [[ $COMP_CWORD == 2 && ${{COMP_WORDS[1]}} == sweep && $word != -* ]]; then
    names="{sweeps}"
  elif [[ $COMP_CWORD == 2 && ${{COMP_WORDS[1]}} == completion && $word != -* ]]; then
    names="{shells}"
  elif [[ $word == -* ]]; then
    names="--help"
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$names" -- "$word"))
  [[ "${{COMPREPLY[0]:-}}" == *= ]] && compopt -o nospace 2> /dev/null
  return 0
}}
complete -o default -F _perceiver_io perceiver-io
"""
_SHELLS = {'bash': '', 'zsh': 'autoload -Uz bashcompinit && bashcompinit\n'}


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2 or arguments[1] not in _SHELLS:
        raise UsageError(f'name a shell, as in perceiver-io completion {"|".join(_SHELLS)}')
    print(script(arguments[1]), end='')


def script(shell: str) -> str:
    """The completion script; `shell` is 'bash' or 'zsh'."""
    cases = []
    for command in cli.COMMANDS:
        define_flags = getattr(
            importlib.import_module(f'perceiver_io.{command}'), 'define_flags', None
        )
        if define_flags is not None:
            with cli.defined(define_flags) as names:
                found = ' '.join(cli.as_typed(name) for name in sorted(names))
            cases.append(f'      {command}) names="{found} --help" ;;')
    return _SHELLS[shell] + _SCRIPT.format(
        commands=' '.join(cli.COMMANDS),
        configs=' '.join(cli.shipped_configs()),
        sweeps=' '.join(points.shipped_sweeps()),
        shells=' '.join(_SHELLS),
        cases='\n'.join(cases),
    )


if __name__ == '__main__':
    cli.run(main)
