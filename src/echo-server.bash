# Completion of echo-server's options for bash(1).

_echo_server() {
  local word=$2 before=$3
  # Bash makes three words of --flag=value.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi

  case $before in
    --host) COMPREPLY=($(compgen -W '0.0.0.0 127.0.0.1 ::' -A hostname -- "$word")) ;;
    --log-level) COMPREPLY=($(compgen -W 'trace debug info warn error off' -- "$word")) ;;
    --close-after | --reset-after | --exit-after)
      COMPREPLY=($(compgen -W 'never' -- "$word")) ;;
    -p | --port | -c | --chunk-size | --max-connections | --idle-timeout | --drain-timeout | --delay)
      COMPREPLY=() ;;
    *) COMPREPLY=($(compgen -W '--host -p --port -c --chunk-size --max-connections --idle-timeout
      --drain-timeout --delay --close-after --reset-after --exit-after --log-level -v --verbose
      --version -h --help' -- "$word")) ;;
  esac
}

complete -F _echo_server echo-server
