#!/bin/sh
# Makes the secrets that docker-compose.yml reads. What is there already stays as it is.
#
#   sh deploy/new-secrets.sh          in deploy/secrets: for your Braze
#   sh deploy/new-secrets.sh demo     in deploy/secrets-demo: for the sandbox
#
# Compose hands a file to a container with the mode it has here, and the containers run under
# another user: so the files can be read by all, and the folder be entered by you alone.
set -eu
umask 022
folder="$(dirname "$0")/secrets${1:+-$1}"
mkdir -p "$folder"
chmod 700 "$folder"

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

make() { # NAME CONTENT
    if [ -s "$folder/$1" ]; then
        echo "kept     $folder/$1"
    else
        printf '%s\n' "$2" >"$folder/$1"
        echo "written  $folder/$1"
    fi
}

make redis_password "$(random)"
make redis_url "redis://:$(cat "$folder/redis_password")@server:6379/0"
make flower_login "admin:$(random)"
# What Segment is given: `source:key` for its libraries, the rest for its webhook.
make write_keys "segment:$(random)"
make shared_secret "$(random)"
make webhook_token "$(random)"
# Where notices go, a URL as Slack gives it; an empty file: nowhere.
[ -e "$folder/notice_webhook" ] || : >"$folder/notice_webhook"
if [ "${1:-}" = demo ]; then
    make braze_api_key sandbox-key
elif [ ! -s "$folder/braze_api_key" ]; then
    : >"$folder/braze_api_key"
    echo "empty    $folder/braze_api_key: put a REST API key with the permission users.track into it"
fi
