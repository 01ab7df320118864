# Completion of msgrpo for bash 4.4 or newer:  eval "$(msgrpo completion bash)"
# bash cuts words at = and : before it asks, and puts what is answered behind the cut. So the words are put together
# again here, and of every answer only what follows the cut is handed back.
_msgrpo_completion() {
    local line=${COMP_LINE:0:COMP_POINT} part words=() kept answer special='[^][A-Za-z0-9_./=:,@%+~-]'
    for part in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if ((${#words[@]} == 0)) || [[ $line == [[:space:]]* ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            words+=("")
        fi
        if [[ $line != "$part"* ]]; then part=$line; fi # the cursor stands within this word
        words[-1]+=$part
        line=${line#"$part"}
    done

    kept=${words[-1]}
    if [[ $COMP_WORDBREAKS == *=* && $COMP_WORDBREAKS == *:* ]]; then
        kept=${kept%"${kept##*[=:]}"}
    elif [[ $COMP_WORDBREAKS == *=* ]]; then
        kept=${kept%"${kept##*=}"}
    elif [[ $COMP_WORDBREAKS == *:* ]]; then
        kept=${kept%"${kept##*:}"}
    else
        kept=""
    fi

    words=("${words[@]//[\"\'\\]/}")
    COMPREPLY=()
    while IFS=$'\t' read -r answer _; do
        if [[ $answer == *[=./:] || $answer == *'[' ]]; then compopt -o nospace; fi
        answer=${answer#"$kept"}
        if [[ $answer =~ $special ]]; then printf -v answer %q "$answer"; fi
        COMPREPLY+=("$answer")
    done < <("$1" _complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _msgrpo_completion msgrpo
