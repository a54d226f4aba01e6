package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// An image is a static program, under one or two names, on nothing or on a
// small Debian.
type image struct {
	name    string // castellan-demo/<name>
	tag     string
	program string // package below demo/
	debian  bool   // on the Debian base instead of on nothing
	also    string // second name of the program
	files   []file
}

// A file of an image; one whose path ends in a slash is a folder.
type file struct {
	path    string
	content []byte
	uid     int
}

func (i image) reference() string { return "castellan-demo/" + i.name + ":" + i.tag }

// images lists what the demo is made of. The tags are the revisions of the
// task definitions.
func images(style []byte) []image {
	const appUser = 1000
	return []image{
		{name: "storefront", tag: "3", program: "shop", debian: true, files: []file{
			{path: "srv/static/"}, {path: "srv/static/style.css", content: style}, {path: "run/secrets/"},
			{path: "run/secrets/payment-key", content: []byte("pk_demo_51H8corner0shop\n")},
		}},
		{name: "api", tag: "7", program: "shop"},
		{name: "worker", tag: "7", program: "shop", also: "invoice", files: []file{{path: "var/lib/worker/", uid: appUser}}},
		{name: "store", tag: "2", program: "shop"},
		{name: "client", tag: "1", program: "shop"},
		{name: "metadata", tag: "1", program: "shop", also: "route"},
		{name: "evil", tag: "1", program: "evil"},
	}
}

// parts are what images are made from.
type parts struct {
	programs map[string][]byte
	style    []byte
	base     string // path of the Debian base
}

// prepare makes the parts; what takes long is kept in the cache.
func prepare(ctx context.Context, cache string) (parts, error) {
	style, err := os.ReadFile("demo/shop/style.css")
	if err != nil {
		return parts{}, fmt.Errorf("%w: run the demo from the root of the source tree", err)
	}
	say("building the programs")
	programs := map[string][]byte{}
	for _, name := range []string{"shop", "evil"} {
		if programs[name], err = buildProgram(ctx, cache, name); err != nil {
			return parts{}, err
		}
	}
	base, err := debianBase(ctx, cache)
	return parts{programs, style, base}, err
}

// buildImages makes the images that are not there yet or have changed.
func buildImages(ctx context.Context, p parts) error {
	for _, i := range images(p.style) {
		if err := i.build(ctx, p.programs[i.program], p.base); err != nil {
			return fmt.Errorf("build image %s: %w", i.reference(), err)
		}
	}
	return nil
}

// buildProgram compiles the package demo/<name> without C.
func buildProgram(ctx context.Context, cache, name string) ([]byte, error) {
	out := filepath.Join(cache, name)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./demo/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build demo/%s: %w\n%s", name, err, text)
	}
	return os.ReadFile(out)
}

// build imports the image into the engine, unless one with the same content is
// there.
func (i image) build(ctx context.Context, program []byte, base string) error {
	content := i.content(program)
	have, err := docker(ctx, "image", "inspect", "--format", `{{index .Config.Labels "`+labelContent+`"}}`, i.reference())
	if err == nil && have == content {
		return nil
	}
	say("making the image %s", i.reference())
	if err == nil { // an older one: without its name nobody would find it again
		if _, err := docker(ctx, "image", "rm", "-f", i.reference()); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(i.write(w, program, base)) }() // ends when r is closed
	defer r.Close()
	_, err = dockerIn(ctx, r, "import",
		"--change", fmt.Sprintf("ENTRYPOINT [%q]", "/bin/"+i.name),
		"--change", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"--change", "LABEL "+labelShop+" "+labelContent+"="+content, "-", i.reference())
	return err
}

// content is a digest of what goes into the image; the Debian base counts by
// its release alone.
func (i image) content(program []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %t %s %x", i.name, i.debian, i.also, sha256.Sum256(program))
	for _, f := range i.files {
		fmt.Fprintf(h, "%q %q %d", f.path, f.content, f.uid)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// write writes the image's root file system as a tar archive.
func (i image) write(w io.Writer, program []byte, base string) error {
	t := tar.NewWriter(w)
	folder, own := "bin/", i.files
	if i.debian {
		folder = "usr/bin/" // where /bin leads on Debian
		if err := copyTar(t, base); err != nil {
			return err
		}
	}
	err := add(t, &tar.Header{Name: folder + i.name, Mode: 0o755, Typeflag: tar.TypeReg}, program)
	if i.also != "" {
		err = errors.Join(err, add(t, &tar.Header{Name: folder + i.also, Linkname: folder + i.name, Mode: 0o755, Typeflag: tar.TypeLink}, nil))
	}
	for _, f := range own {
		h := &tar.Header{Name: f.path, Mode: 0o644, Typeflag: tar.TypeReg, Uid: f.uid, Gid: f.uid}
		if f.path[len(f.path)-1] == '/' {
			h.Mode, h.Typeflag = 0o755, tar.TypeDir
		}
		err = errors.Join(err, add(t, h, f.content))
	}
	return errors.Join(err, t.Close())
}

func add(t *tar.Writer, h *tar.Header, content []byte) error {
	h.Size = int64(len(content))
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(t, bytes.NewReader(content))
	return err
}

// copyTar adds the entries of a tar file.
func copyTar(t *tar.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(t, r); err != nil {
			return fmt.Errorf("copy %s: %w", h.Name, err)
		}
	}
}
