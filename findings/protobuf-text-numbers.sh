#!/usr/bin/env bash
# Protobuf's two text parsers, of C++ and of Python, take different numbers.
#
# versions: protobuf 7.36.2 and 5.26.1 (Python); protoc of grpcio-tools 1.62.3 (C++, protobuf 4.25)
# expected: one text format, as its specification says: a minus may stand apart from its number, a plus may not be there.
# seen: Python refuses `scale: - 2`, which C++ reads, and reads `scale: +2`, which C++ refuses; 5.26 reads the fraction `017`
#       as 17, 7.36 refuses it, C++ refuses it ("Expect a decimal number"). Prototxts of Caffe, which is C++, hold the first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf 'syntax = "proto2";\nmessage Power { optional float scale = 1; }\n' > power.proto
cat > take.py << 'END'
import sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

file = descriptor_pb2.FileDescriptorProto(name="power.proto")
file.message_type.add(name="Power").field.add(name="scale", number=1, type=2, label=1)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Power = message_factory.GetMessageClass(pool.FindMessageTypeByName("Power"))
try:
    print(text_format.Parse(sys.argv[1], Power()).scale)
except text_format.ParseError:
    print("refused")
END
for version in 7.36.2 5.26.1; do
    python3 -m venv "py$version"
    "py$version/bin/pip" install --quiet "protobuf==$version"
done
python3 -m venv cpp
cpp/bin/pip install --quiet 'grpcio-tools==1.62.3' 'setuptools<81'

bad=0
check() { # what, seen, expected to be seen
    echo "$1: $2"
    [ "$2" = "$3" ] || { echo "  changed: was $3"; bad=1; }
}
cpp() { # whether the C++ parser takes a text
    if echo "$1" | cpp/bin/python -m grpc_tools.protoc -I. --encode=Power power.proto > out 2> err; then echo taken; else echo refused; fi
}
check 'C++     scale: - 2' "$(cpp 'scale: - 2')" taken
check 'C++     scale: +2' "$(cpp 'scale: +2')" refused
check 'C++     scale: 017' "$(cpp 'scale: 017')" refused
for version in 7.36.2 5.26.1; do
    check "Python $version scale: - 2" "$("py$version/bin/python" take.py 'scale: - 2')" refused
    check "Python $version scale: +2" "$("py$version/bin/python" take.py 'scale: +2')" 2.0
done
check 'Python 7.36.2 scale: 017' "$(py7.36.2/bin/python take.py 'scale: 017')" refused
check 'Python 5.26.1 scale: 017' "$(py5.26.1/bin/python take.py 'scale: 017')" 17.0
exit $bad
