#compdef msgrpo
# Completion of msgrpo for zsh, after compinit:  eval "$(msgrpo completion zsh)"
# or as a file _msgrpo in a folder of $fpath.
_msgrpo() {
    local answer word
    local -a typed whole whole_shown open open_shown
    typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    while IFS= read -r answer; do
        word=${answer%%$'\t'*}
        if [[ $word == *[=./:\[] ]]; then
            open+=("$word")
            open_shown+=("$word")
        else
            whole+=("$word")
            whole_shown+=("$word${${answer#*$'\t'}:+  -- ${answer#*$'\t'}}")
        fi
    done < <("${(Q)words[1]}" _complete -- "${typed[@]}" 2>/dev/null)
    (( $#open )) && compadd -S '' -d open_shown -a open
    (( $#whole )) && compadd -d whole_shown -a whole
    (( $#open + $#whole ))
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _msgrpo "$@"
else
    compdef _msgrpo msgrpo
fi
