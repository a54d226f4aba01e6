package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	pushing "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run castellan as a command: the test binary itself.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"castellan": func() { os.Exit(run()) }})
}

// TestScripts runs what users type. `make golden` rewrites what they see.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("CASTELLAN_GOLDEN") == "write",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// A unix socket's path must be short, so the data is not below the
			// script's own long path.
			data, err := os.MkdirTemp("", "castellan-")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(data) })
			e.Setenv("CASTELLAN_DATA_DIR", data)
			e.Setenv("NO_COLOR", "1")
			e.Setenv("GOGC", "400") // a script's commands are short: to start is most of what they do
			deploy, err := filepath.Abs("../../deploy")
			if err != nil {
				return err
			}
			e.Setenv("DEPLOY", deploy)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			e.Setenv("ADDRESS", l.Addr().String())
			return l.Close()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"up": waitUp, "pick": pick, "registry": startRegistry, "receiver": startReceiver, "push": push, "hook": hook, "fleet": fleet, "eventually": eventually, "sigstore": startSigstore, "certify": certify, "index": pushIndex, "recipient": makeRecipient, "visit": visitPage, "kms": startKMS, "engine": startEngine, "behave": behave, "obey": obey, "attack": attack},
	})
}

// waitUp waits until the server of this script's data folder answers.
func waitUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: up")
	}
	socket := filepath.Join(ts.Getenv("CASTELLAN_DATA_DIR"), "castellan.sock")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := ask(ctx, ts); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("no server at %s after 30 s", socket)
		case <-tick.C:
		}
	}
}

// startRegistry starts an empty registry for a script: registry NAME puts its
// address into a variable.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: registry NAME")
	}
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.Listener.Addr().String())
}

// push puts an image with a file into a registry: push REFERENCE PATH FILE.
func push(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: push REFERENCE PATH FILE")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	content := []byte(ts.ReadFile(args[2]))
	ts.Check(w.WriteHeader(&tar.Header{Name: args[1], Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write(content)
	ts.Check(err)
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	ts.Check(err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", RootFS: must(image.ConfigFile()).RootFS, Author: args[0],
	})
	ts.Check(err)
	reference, err := name.ParseReference(args[0], name.Insecure)
	ts.Check(err)
	ts.Check(pushing.Write(reference, image))
}

// hook sends a file to a registry's webhook, with its token in the path: hook
// ADDRESS NAME TOKEN FILE.
func hook(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: hook ADDRESS NAME TOKEN FILE")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Post("https://"+args[0]+"/api/v1/registries/"+args[1]+"/webhook/"+args[2], "application/json", strings.NewReader(ts.ReadFile(args[3])))
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if resp.StatusCode != http.StatusAccepted {
		ts.Fatalf("got %s: %s", resp.Status, body)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ask(ctx context.Context, ts *testscript.TestScript) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The test binary is castellan when it is called so.
	cmd := exec.CommandContext(ctx, self, "status")
	cmd.Args[0] = "castellan"
	cmd.Env = append(os.Environ(), "CASTELLAN_DATA_DIR="+ts.Getenv("CASTELLAN_DATA_DIR"))
	return cmd.Run()
}

// pick sets a variable to the first match of a pattern in a file:
// pick NAME FILE PATTERN.
func pick(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: pick NAME FILE PATTERN")
	}
	re, err := regexp.Compile(args[2])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("%s has no %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[len(m)-1])
}

func TestTable(t *testing.T) {
	var b strings.Builder
	g := &globals{streams: streams{out: &b}, colour: "never"}
	err := g.table([]string{"NAME", "STATE", "IMAGE"}, [][]cell{
		{text("web"), {"running", good}, text("shop/web:1")},
		{text("größe"), {"exited", plain}, text("a\x1b[31mb")},
		{text(strings.Repeat("n", 100)), {"lost", warn}, text("x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%-48s  STATE    IMAGE\n%-48s  running  shop/web:1\n%-48s  exited   a\\x1b[31mb\n%s…  lost     x\n", "NAME", "web", "größe", strings.Repeat("n", 47))
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestColourOnlyWhenAsked(t *testing.T) {
	for _, tc := range []struct {
		colour string
		want   string
	}{{"always", "\x1b[31mx\x1b[0m"}, {"never", "x"}, {"auto", "x"}} {
		g := &globals{streams: streams{out: &strings.Builder{}}, colour: tc.colour}
		if got := g.paint("x", bad); got != tc.want {
			t.Errorf("--color %s, not a terminal: %q, want %q", tc.colour, got, tc.want)
		}
	}
}

func TestReadStream(t *testing.T) {
	stream := ": hello\n\nid: 7\nevent: event\ndata: {\"a\":1}\n\ndata: one\ndata: two\n\nevent: dropped\ndata: 3\n\nid: 9\ndata: cut off"
	var got []message
	if err := readStream(strings.NewReader(stream), func(m message) error { got = append(got, m); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []message{{"event", "7", `{"a":1}`}, {"", "", "one\ntwo"}, {"dropped", "", "3"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzReadStream(f *testing.F) {
	f.Add([]byte("id: 1\ndata: x\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := readStream(strings.NewReader(string(b)), func(m message) error {
			if m.data == "" {
				t.Fatal("a message without data was handed over")
			}
			return nil
		})
		if err != nil && !strings.Contains(err.Error(), "token too long") {
			t.Fatal(err)
		}
	})
}
