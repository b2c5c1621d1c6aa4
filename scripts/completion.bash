# bash completion for holdpoint: the commands its own help lists.
_holdpoint()
{
	local word=${COMP_WORDS[COMP_CWORD]} commands
	if [ "$COMP_CWORD" -eq 1 ]; then
		commands=$("${COMP_WORDS[0]}" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	fi
}
complete -F _holdpoint holdpoint
