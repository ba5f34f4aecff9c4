
# Behind the options of `mrlock run` there is a command line of its own.
function __fish_mrlock_command_of_run
    set -l words (commandline -opc) (commandline -ct)
    test "$words[2]" = run
    and argparse -s '@OPTIONS@' -- $words[3..-1] 2>/dev/null
    and set -q argv[1]
    and not string match -q -- '-*' $argv[1]
    and echo "$argv"
end
complete -c mrlock -n "__fish_mrlock_command_of_run >/dev/null" -x -a "(complete -C (__fish_mrlock_command_of_run))"
