// Command lambda builds the function for AWS Lambda and packs it: one zip for each
// architecture, with the program alone in it, and the same bytes each time that the
// same source is built by the same Go.
//
//	go run ./test/lambda -o bin
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func main() {
	out := flag.String("o", "bin", "folder for the zips")
	release := flag.String("release", "dev", "the release that the function tells")
	flag.Parse()
	for _, arch := range []string{"arm64", "amd64"} {
		if err := pack(*out, arch, *release); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// pack builds for one architecture and writes castellan-lambda-ARCH.zip.
func pack(out, arch, release string) error {
	dir, err := os.MkdirTemp("", "castellan-lambda-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bootstrap") // what Lambda starts
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.release="+release, "-o", program, "./cmd/castellan-lambda")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build for %s: %w", arch, err)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	zipped, err := archive(b)
	if err != nil {
		return fmt.Errorf("pack for %s: %w", arch, err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(out, "castellan-lambda-"+arch+".zip")
	if err := os.WriteFile(name, zipped, 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes, of a program of %d, sha256:%x\n", name, len(zipped), len(b), sha256.Sum256(zipped))
	return nil
}

// archive zips a program that Lambda may execute.
func archive(program []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestCompression) })
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	f, err := w.CreateHeader(h)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
