#!/bin/sh
# Starts Valkey for services alone: they show a password, and may do what works on keys and no more. It is in a file, as a
# hash: arguments of a process can be seen.
set -eu
umask 077
users="${TMPDIR:-/tmp}/users.acl"
hash=$(printf %s "$LAUREL_PASSWORD" | sha256sum | cut -d' ' -f1)
printf 'user default off\nuser laurel on #%s ~* &* +@all -@admin -@dangerous +info\n' "$hash" > "$users"
exec valkey-server --aclfile "$users" --save '' --appendonly no --maxmemory-policy noeviction "$@"
