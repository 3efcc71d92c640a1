#!/usr/bin/env bash
# Builds the client with packages of Debian: build/lossd-client.jar.
#
#   apt-get install default-jdk-headless libgrpc-java libnetty-java libperfmark-java \
#       libprotobuf-java libgoogle-common-protos-java libgoogle-gson-java \
#       libgeronimo-annotation-1.3-spec-java protobuf-compiler protobuf-compiler-grpc-java-plugin
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
protos=$(realpath ../../../protos)
libraries=(
    error-prone-annotations geronimo-annotation-1.3-spec gson guava perfmark-api
    grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub
    netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-common netty-handler
    netty-handler-proxy netty-resolver netty-transport
    proto-google-common-protos protobuf
)
jars=("${libraries[@]/#//usr/share/java/}")
jars=("${jars[@]/%/.jar}")

rm -rf build
mkdir -p build/protos/lossd/v1 build/generated build/classes
cp "$protos"/lossd/v1/*.proto build/protos/lossd/v1
# Java's accessor of the number `smoothing_value` would have the name of one of the enum `smoothing`.
# Names do not travel, so that the message stays the same.
sed -i 's/\bsmoothing_value\b/smoothing_number/' build/protos/lossd/v1/evaluation.proto
protoc -I build/protos --java_out=build/generated \
    --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" \
    --grpc-java_out=build/generated build/protos/lossd/v1/*.proto
path=$(IFS=:; printf '%s' "${jars[*]}")
# The generated code may use what is deprecated; this one may not.
find build/generated -name '*.java' > build/sources
javac -nowarn -XDsuppressNotes -proc:none -cp "$path" -d build/classes @build/sources
javac -Xlint:all,-processing -Werror -proc:none -cp "build/classes:$path" -d build/classes \
    src/example/*.java
{
    echo "Main-Class: example.Main"
    echo "Class-Path: "
    printf "  file://%s\n" "${jars[@]}" # a line goes on after one space
} > build/manifest
jar --create --file build/lossd-client.jar --manifest build/manifest -C build/classes .
