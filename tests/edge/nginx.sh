#!/bin/sh
# docs/nginx.conf as it is, under Debian's nginx: who calls, events as they happen, https.
# shellcheck source=tests/edge/checks.sh
. /project/tests/edge/checks.sh
boot_openrc
sh /project/openrc/install.sh --from /made/dist/*.tar.gz >/dev/null
rc-service bloom-runtime stop >/dev/null
cp /project/docs/nginx.conf /etc/nginx/conf.d/bloom-runtime.conf
mkdir -p /etc/ssl
cp /made/bloom-runtime.crt /made/bloom-runtime.key /etc/ssl/
rm -f /etc/nginx/sites-enabled/default
key=$(sed -n 's/^RUNTIME_API_KEY=//p' /etc/bloom-runtime.env)
printf 'HOST=127.0.0.1\nFORCE_HTTPS=1\nALLOWED_HOSTS=bloom.example\nRATE_LIMIT_PER_MINUTE=1000\n' >>/etc/bloom-runtime.env
rc-service bloom-runtime start >/dev/null
says 0 'test is successful' nginx -t
nginx
# Two callers from elsewhere.
for address in 10.9.0.1 10.9.0.2; do ip address add "$address/32" dev lo 2>/dev/null || busybox ip address add "$address/32" dev lo; done
site=https://bloom.example
ask() { curl -s --cacert /made/bloom-runtime.crt --resolve bloom.example:443:10.9.0.1 --resolve bloom.example:80:10.9.0.1 "$@"; }
remaining() { ask -o /dev/null -D - "$@" "$site/api/runtime/stats" | tr -d '\r' | sed -n 's/^[Rr]ate[Ll]imit-[Rr]emaining: //p'; }

it 'passes on to the server over https'
is "$(ask -o /dev/null -w '%{http_code}' "$site/api/runtime/health")" 200
is "$(ask -o /dev/null -w '%{http_code}' -H "X-Runtime-API-Key: $key" "$site/api/runtime/stats")" 200

it 'sends http to https'
is "$(ask -o /dev/null -w '%{http_code} %{redirect_url}' 'http://bloom.example/tasks?status=failed')" "301 $site/tasks?status=failed"

it 'lets the server send to https what came over http through another proxy'
is "$(curl -so /dev/null -w '%{http_code} %{redirect_url}' -H 'Host: bloom.example' -H 'X-Forwarded-Proto: http' \
    http://127.0.0.1:5000/tasks)" "301 $site/tasks"

it 'tells the server who calls: each address has its own allowance'
is "$(remaining --interface 10.9.0.2)" 999
is "$(remaining --interface 10.9.0.2)" 998
is "$(remaining --interface 10.9.0.1)" 999

it 'lets nobody choose another address'
is "$(remaining --interface 10.9.0.2 -H 'X-Forwarded-For: 192.0.2.7' -H 'X-Real-IP: 192.0.2.7')" 997

it 'passes events on as they happen'
ask -N -H "X-Runtime-API-Key: $key" "$site/api/runtime/events" >/tmp/events &
listener=$!
eventually 10 grep -q connected /tmp/events
task=$(RUNTIME_API_KEY=$key bloom-runtime submit 'An event, please.')
eventually 10 grep -q "$task" /tmp/events
kill -0 "$listener" || failed 'the stream had ended'
kill "$listener"

it 'lets large bodies through'
head -c 8000000 /dev/zero | tr '\0' 'x' >/tmp/prompt
printf '{"context_id":"c","agent_slug":"a","prompt":"%s"}' "$(cat /tmp/prompt)" >/tmp/body
is "$(ask -o /dev/null -w '%{http_code}' -H "X-Runtime-API-Key: $key" -H 'Content-Type: application/json' \
    --data-binary @/tmp/body "$site/api/runtime/llm-tasks")" 201
