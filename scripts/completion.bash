# bash completion for holdpoint: what its own help lists.
_holdpoint()
{
	local word=${COMP_WORDS[COMP_CWORD]} words
	if [ "$COMP_CWORD" -eq 1 ]; then
		words=$("${COMP_WORDS[0]}" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	elif [[ $word == -* ]]; then
		words=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | awk '/^  --/ { print $1 }')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	elif [ "$COMP_CWORD" -eq 2 ] && [[ ${COMP_WORDS[1]} == help ]]; then
		words=$("${COMP_WORDS[0]}" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	elif [ "$COMP_CWORD" -eq 2 ] && [[ ${COMP_WORDS[1]} =~ ^(token|secret|plugin|breaker|budget|workflow|bulk|schedules)$ ]]; then
		words=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | awk '/^usage:/ { gsub(/[][|]/, " ", $4); print $4 }')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	fi
}
complete -F _holdpoint holdpoint
