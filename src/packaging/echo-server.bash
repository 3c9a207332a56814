# shellcheck shell=bash
# Completion of echo-server's options for bash(1).

_echo_server() {
  local word=$2 before=$3
  # Bash makes three words of --flag=value.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi

  local words=
  case $before in
    --host)
      mapfile -t COMPREPLY < <(compgen -W '0.0.0.0 127.0.0.1 ::' -A hostname -- "$word")
      return ;;
    --log-level) words='trace debug info warn error off' ;;
    --idle-timeout | --close-after | --reset-after | --exit-after) words=never ;;
    --only-first) words=all ;;
    -p | --port | -c | --chunk-size | --max-connections | --drain-timeout | --delay) ;;
    *) words='--host -p --port -v --verbose -c --chunk-size --max-connections --idle-timeout
      --drain-timeout --log-level -h --help --version --delay --close-after --reset-after
      --only-first --exit-after' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _echo_server echo-server
