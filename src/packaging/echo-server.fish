# Completion of echo-server's options for fish(1).

complete -c echo-server -f
complete -c echo-server -l host -x -a '0.0.0.0 127.0.0.1 :: (__fish_print_hostnames)' -d 'Listen on this address or name'
complete -c echo-server -s p -l port -x -d 'Listen on this port; 0 picks a free one'
complete -c echo-server -s v -l verbose -d 'Show every chunk in the log'
complete -c echo-server -s c -l chunk-size -x -d 'Receive at most this many bytes at once'
complete -c echo-server -l max-connections -x -d 'Serve at most this many clients at once'
complete -c echo-server -l idle-timeout -x -a never -d 'Close a connection on which nothing moves'
complete -c echo-server -l drain-timeout -x -d 'After a stop, time to finish'
complete -c echo-server -l log-level -x -a 'trace debug info warn error off' -d 'Log from this level on'
complete -c echo-server -s h -l help -d 'Print the help'
complete -c echo-server -l version -d 'Print the version'
complete -c echo-server -l delay -x -d 'Wait before each chunk goes back'
complete -c echo-server -l close-after -x -a never -d 'Send the end of file after this many bytes'
complete -c echo-server -l reset-after -x -a never -d 'Break the connection after this many bytes'
complete -c echo-server -l only-first -x -a all -d 'Do these three to this many clients only'
complete -c echo-server -l exit-after -x -a never -d 'Serve this many clients, then exit'
