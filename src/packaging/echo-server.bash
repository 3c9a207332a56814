# shellcheck shell=bash
# Bash completion for echo-server(1). The options and the words that they accept come from `echo-server --help`.

_echo_server() {
  local word=$2 before=$3
  # Bash splits --option=value into three words.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi

  # All options, and the value and the description of the one before the word.
  local option='^ {1,8}((-[a-z]), +)?(--[a-z-]+)( [A-Z]+)?($|  )'
  local line names='' options='' value='' text=''
  while IFS= read -r line; do
    if [[ $line =~ $option ]]; then
      names=" ${BASH_REMATCH[2]} ${BASH_REMATCH[3]} "
      options+=$names
      [[ $names != *" $before "* ]] || value=${BASH_REMATCH[4]# }
    elif [[ -z $line ]]; then
      names=
    fi
    [[ $names != *" $before "* ]] || text+=" $line"
  done < <("$1" --help 2>/dev/null)

  local words='' list='([a-z]+, +)+([a-z]+ +or +)?[a-z]+' default='\[([a-z]+), +ECHO_'
  case $value in
    '') words=$options ;;
    HOST) words='0.0.0.0 127.0.0.1 ::' ;;
    LEVEL) [[ $text =~ $list ]] && words=${BASH_REMATCH[0]//,/} words=${words/ or / } ;;
    TEXT) ;;
    *) [[ $text =~ $default ]] && words=${BASH_REMATCH[1]} ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; [[ $value != HOST ]] || compgen -A hostname -- "$word")
}

complete -F _echo_server echo-server
