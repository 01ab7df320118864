# Completion of msgrpo for fish:  msgrpo completion fish > ~/.config/fish/completions/msgrpo.fish
function __msgrpo_answers
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    $typed[1] _complete -- $typed[2..-1] "$current" 2>/dev/null
end
complete -c msgrpo -f -a '(__msgrpo_answers)'
