#!/usr/bin/env bash
# Builds each client whose tools are installed: bash examples/clients/build.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

has() {
    for name in "$@"; do
        command -v "$name" >/dev/null || { echo "$client: skipped, no $name"; return 1; }
    done
}

client=node
if has node npm; then
    (cd node && npm ci --silent && npm run --silent build 2>/dev/null)
    echo "$client: built"
fi
client=go
gocode=/usr/share/gocode/src/google.golang.org
if has go protoc protoc-gen-go && [ -d $gocode/grpc ] && [ -d $gocode/protobuf ]; then
    bash go/build.sh
    echo "$client: built"
fi
client=java
if has javac protoc grpc_java_plugin && [ -e /usr/share/java/grpc-netty.jar ]; then
    bash java/build.sh
    echo "$client: built"
fi
