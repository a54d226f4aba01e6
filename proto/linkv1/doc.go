// Package linkv1 is the generated code of the agent link, version 1: see
// link.proto. It is used by internal/link only.
package linkv1

//go:generate protoc -I . --plugin=protoc-gen-go=../../bin/protoc-gen-go --plugin=protoc-gen-connect-go=../../bin/protoc-gen-connect-go --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative link.proto
