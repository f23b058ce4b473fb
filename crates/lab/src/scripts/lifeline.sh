# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs "$@" as the only child of process 1 of a new PID and mount namespace, as long as standard input stays open. When
# the lab ends, however it ends, its end of the pipe closes, this shell exits, and the kernel kills every process and
# undoes every mount of the namespace.
exec 3<&0
cat <&3 >/dev/null &
lifeline=$!
"$@" </dev/null 3<&- &
work=$!
wait -n -p ended "$lifeline" "$work"
status=$?
[ "$ended" = "$work" ] && exit "$status"
exit 130
