#!/usr/bin/env bash
# The commands of README's "By hand, with curl", word for word. Run it beside `make run`.
set -euo pipefail

. var/dev.env
AUTH="Authorization: Bearer $BROKER_TOKEN"
VIDEO=tests/data/clip.mp4
WORK=$(mktemp -d)
member() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$WORK/$1.json" "$2"; }

SIZE=$(wc -c < "$VIDEO" | tr -d ' ')
curl -sS "$BROKER_URL/upload" -H "$AUTH" -H 'Content-Type: application/json' -w '\n' \
  -d '{"content_type": "video/mp4", "filename": "clip.mp4", "size": '"$SIZE"'}' | tee "$WORK/issued.json"

python3 -c '
import json, sys
upload = json.load(sys.stdin)["upload"]
print("url =", json.dumps(upload["url"]))
for name, value in upload["fields"].items():
    print("form-string =", json.dumps(f"{name}={value}"))
' < "$WORK/issued.json" > "$WORK/form.curl"
curl -sS -K "$WORK/form.curl" -F "file=@$VIDEO" -w '\n%{http_code}\n'

curl -sS -X POST "$(member issued complete_url)" -H "$AUTH" -w '\n' | tee "$WORK/ready.json"

curl -sS -r 1000-1999 "$(member ready signed_url)" -o "$WORK/piece" -w '%{http_code}\n'
head -c 2000 "$VIDEO" | tail -c 1000 | cmp - "$WORK/piece" && echo 'the same bytes'

curl -sS -X DELETE "$BROKER_URL/$(member ready media_id)" -H "$AUTH" -w '\n'
curl -sS "$BROKER_URL/$(member ready media_id)" -H "$AUTH" -w '\n'
curl -sS -o "$WORK/gone" "$(member ready signed_url)" -w '%{http_code}\n'
