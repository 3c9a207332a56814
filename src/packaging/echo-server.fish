# Fish completion for echo-server(1). The options and the words that they accept come from `echo-server --help`.

# Each entry is an option's first line, joined with the lines that continue its description.
set -l entries
set -l inside
for line in (command echo-server --help 2>/dev/null)
    if string match --quiet --regex '^ {1,8}(-[a-z], +)?--[a-z]' -- $line
        set --append entries $line
        set inside yes
    else if test -z "$line"
        set inside
    else if test -n "$inside"
        set entries[-1] "$entries[-1] $line"
    end
end

complete --command echo-server --no-files
for entry in $entries
    # This sets the variables letter, name, value and text.
    string match --quiet --regex '^ +(?:-(?<letter>[a-z]), +)?--(?<name>[a-z-]+)(?: (?<value>[A-Z]+))? +(?<text>.*)$' -- $entry
    set text (string replace --all --regex ' +' ' ' -- $text)
    set -l words
    switch "$value"
        case HOST
            set words '0.0.0.0 127.0.0.1 :: (__fish_print_hostnames)'
        case LEVEL
            set words (string match --regex '(?:[a-z]+, )+(?:[a-z]+ or )?[a-z]+' -- $text | string replace --all --regex ',| or ' ' ')
        case N SIZE TIME
            set words (string match --groups-only --regex '\[([a-z]+), ECHO_' -- $text)
    end
    set -l arguments --long-option $name --description (string replace --regex ' \[[^]]*\]$' '' -- $text)
    test -z "$letter"; or set --append arguments --short-option $letter
    test -z "$value"; or set --append arguments --exclusive --arguments "$words"
    complete --command echo-server $arguments
end
