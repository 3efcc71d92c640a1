#!/usr/bin/env bash
# Builds the client with packages of Debian: build/lossd-client.
#
#   apt-get install golang-go golang-github-golang-protobuf-1-5-dev golang-google-grpc-dev \
#       golang-google-genproto-dev protobuf-compiler protoc-gen-go
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
protos=$(realpath ../../../protos)
mkdir -p build/src
protoc -I "$protos" --go_out=build/src "$protos"/lossd/v1/*.proto
export GO111MODULE=off GOFLAGS= GOPATH="$PWD/build:/usr/share/gocode"
go vet .
go build -o build/lossd-client .
