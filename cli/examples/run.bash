
# Behind the options of `mrlock run` there is a command line of its own.
_mrlock_run() {
    local word=2 function
    if [[ ${COMP_WORDS[1]} != run ]]; then
        _mrlock "$@"
        return
    fi
    while ((word < COMP_CWORD)); do
        case ${COMP_WORDS[word]} in
            --)
                ((word++))
                break
                ;;
            @OPTIONS@)
                # The equals sign is a word, too.
                [[ ${COMP_WORDS[word + 1]} != = ]] || ((word++))
                ((word += 2))
                ;;
            = ) ((word += 2)) ;;
            -*) ((word++)) ;;
            *) break ;;
        esac
    done
    if ((word > COMP_CWORD)) || [[ ${COMP_WORDS[word]} == [-=]* && ${COMP_WORDS[word - 1]} != -- ]]; then
        _mrlock "$@"
        return
    fi
    # bash-completion's, by its new and its old name.
    for function in _comp_command_offset _command_offset; do
        if declare -F "$function" >/dev/null; then
            "$function" "$word"
            return
        fi
    done
    ((word != COMP_CWORD)) || COMPREPLY=($(compgen -c -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _mrlock_run -o bashdefault -o default mrlock
