package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// call is what an engine sends.
type call struct {
	User, UserAuthNMethod string
	RequestMethod         string
	RequestURI            string `json:"RequestUri"` // the engine's spelling
	RequestBody           []byte
	RequestHeaders        map[string]string
}

// permission is what it gets.
type permission struct {
	Allow    bool
	Msg, Err string
}

// judge decides by a function and remembers what it was asked.
type judge struct {
	decide func(context.Context, admission.Request) (admission.Verdict, error)

	mu    sync.Mutex
	asked []admission.Request
}

func (j *judge) Decide(ctx context.Context, r admission.Request) (admission.Verdict, error) {
	j.mu.Lock()
	j.asked = append(j.asked, r)
	j.mu.Unlock()
	return j.decide(ctx, r)
}

func (j *judge) requests() []admission.Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.asked
}

func yes() bool { return true }

func allowing() *judge {
	return &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) {
		return admission.Verdict{Outcome: admission.Allow}, nil
	}}
}

func denying(reasons ...admission.Reason) *judge {
	return &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) {
		return admission.Verdict{Outcome: admission.Deny, Reasons: reasons}, nil
	}}
}

// store is an engine: answers by kind and name, "container x".
type store map[string]string

func (s store) get(kind, name string) (json.RawMessage, error) {
	if answer, ok := s[kind+" "+name]; ok {
		return json.RawMessage(answer), nil
	}
	if _, ok := s["broken"]; ok {
		return nil, errors.New("the engine broke off")
	}
	return nil, fault.New(fault.NotFound, "no %s %s", kind, name)
}

func (s store) Container(_ context.Context, name string) (json.RawMessage, error) {
	return s.get("container", name)
}
func (s store) Containers(context.Context) (json.RawMessage, error)        { return s.get("containers", "") }
func (s store) Exec(_ context.Context, id string) (json.RawMessage, error) { return s.get("exec", id) }
func (s store) Image(_ context.Context, name string) (json.RawMessage, error) {
	if strings.Contains(name, " ") {
		return nil, fault.New(fault.Invalid, "%q is no name of an image", name)
	}
	return s.get("image", name)
}
func (s store) Volume(_ context.Context, name string) (json.RawMessage, error) {
	return s.get("volume", name)
}
func (s store) Network(_ context.Context, name string) (json.RawMessage, error) {
	return s.get("network", name)
}

func (s store) Info(context.Context) (json.RawMessage, error) { return s.get("info", "") }

const (
	idA    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idExec = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	imgID  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digest = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// shop is an engine with one image and one container.
func shop() store {
	image := fmt.Sprintf(`{"Id":%q,"RepoDigests":["registry.example/shop/cart@%s"],"Config":{"Entrypoint":["/pause"]}}`, imgID, digest)
	return store{
		"info ":                              `{"SecurityOptions":["name=seccomp,profile=default"]}`,
		"image registry.example/shop/cart:1": image,
		"image " + imgID:                     image,
		"container cart": fmt.Sprintf(`{"Id":%q,"Name":"/cart","Image":%q,"State":{"Status":"created"},
			"Config":{"Image":"registry.example/shop/cart:1","Labels":{}},"HostConfig":{"NetworkMode":"default"},"Mounts":[]}`, idA, imgID),
		"container running": fmt.Sprintf(`{"Id":%q,"Name":"/running","Image":%q,"State":{"Status":"running","Running":true},
			"Config":{"Image":"registry.example/shop/cart:1"},"HostConfig":{"NetworkMode":"default","Memory":1000}}`, idA, imgID),
		"container " + idA: fmt.Sprintf(`{"Id":%q,"Name":"/running","Image":%q,"State":{"Status":"running","Running":true},
			"Config":{"Image":"registry.example/shop/cart:1"},"HostConfig":{"NetworkMode":"default"}}`, idA, imgID),
		"exec " + idExec: fmt.Sprintf(`{"ID":%q,"ContainerID":%q,"ProcessConfig":{"tty":true,"entrypoint":"sh","arguments":["-c","id"],"privileged":true,"user":"0"}}`, idExec, idA),
	}
}

// door is a plugin that serves, and a client as an engine has it.
type door struct {
	t      testing.TB
	client *http.Client
}

// open serves a plugin until the test ends.
func open(t testing.TB, d authz.Decider, e authz.Engine, o authz.Options) door {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "p.sock")
	l, err := authz.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p := authz.New(d, e, o, slog.New(slog.DiscardHandler))
	go func() { done <- p.Serve(ctx, l) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	return door{t, client}
}

func (d door) send(path string, v any) permission {
	d.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.client.Post("http://plugin"+path, "application/json", bytes.NewReader(b))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var p permission
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		d.t.Fatal(err)
	}
	return p
}

func (d door) ask(c call) permission { return d.send("/AuthZPlugin.AuthZReq", c) }

// empty is a call without a body, as clients make it.
func empty(method, uri string) call {
	c := call{RequestMethod: method, RequestURI: uri}
	if method == "POST" || method == "PUT" {
		c.RequestHeaders = map[string]string{"Content-Length": "0"}
	}
	return c
}

// post is a call with a body of JSON.
func post(uri, body string) call {
	return call{RequestMethod: "POST", RequestURI: uri, RequestBody: []byte(body), RequestHeaders: map[string]string{
		"Content-Type": "application/json", "Content-Length": fmt.Sprint(len(body)),
	}}
}

func TestActivate(t *testing.T) {
	d := open(t, allowing(), shop(), authz.Options{})
	resp, err := d.client.Post("http://plugin/Plugin.Activate", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct{ Implements []string }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || len(got.Implements) != 1 || got.Implements[0] != "authz" {
		t.Errorf("Activate = %v, %v, want authz", got, err)
	}
}

// TestMessage shows what whoever runs a container reads.
func TestMessage(t *testing.T) {
	d := open(t, denying(
		admission.Reason{Effect: admission.Warns, Rule: "old", Message: "is old"},
		admission.Reason{Effect: admission.Denies, Rule: "no-privileged", Message: "the container\nis \x1b[31mprivileged", Remedy: "leave out --privileged"},
		admission.Reason{Effect: admission.Denies, Rule: "unsigned", Message: "nobody signed it"},
	), shop(), authz.Options{})
	got := d.ask(empty("POST", "/v1.41/containers/cart/start"))
	if got.Allow || strings.ContainsAny(got.Msg, "\n\x1b") || len(got.Msg) > 700 {
		t.Errorf("answer = %+v, want one plain line", got)
	}
	for _, want := range []string{"no-privileged: the container is", "; unsigned: nobody signed it. Remedy: leave out --privileged"} {
		if !strings.Contains(got.Msg, want) {
			t.Errorf("message %q does not say %q", got.Msg, want)
		}
	}
	if strings.Contains(got.Msg, "is old") {
		t.Errorf("message %q tells of a warning", got.Msg)
	}
}

// TestDeclared shows what happens where nobody decides.
func TestDeclared(t *testing.T) {
	failing := func() *judge {
		return &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) {
			return admission.Verdict{}, errors.New("no policy")
		}}
	}
	panicking := func() *judge {
		return &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) { panic("oh") }}
	}
	silent := func() *judge {
		return &judge{decide: func(ctx context.Context, _ admission.Request) (admission.Verdict, error) {
			<-ctx.Done()
			return admission.Verdict{}, ctx.Err()
		}}
	}
	broken := store{"broken": ""}
	for _, tc := range []struct {
		name   string
		judge  func() *judge
		engine store
		want   string
	}{
		{"the decider fails", failing, shop(), "no policy"},
		{"the decider panics", panicking, shop(), "made a mistake"},
		{"the decider takes too long", silent, shop(), "deadline"},
		{"the engine does not answer", allowing, broken, "broke off"},
	} {
		for _, allow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, allow %v", tc.name, allow), func(t *testing.T) {
				reports := make(chan admission.Verdict, 1)
				d := open(t, tc.judge(), tc.engine, authz.Options{
					Allow: func() bool { return allow }, Limit: 50 * time.Millisecond,
					Report: func(_ admission.Request, v admission.Verdict) { reports <- v },
				})
				got := d.ask(empty("POST", "/v1.41/containers/cart/start"))
				if got.Allow != allow || !allow && !strings.Contains(got.Msg, tc.want) {
					t.Errorf("answer = %+v, want allow %v and %q", got, allow, tc.want)
				}
				if v := <-reports; !v.Declared || v.Allowed() != allow {
					t.Errorf("reported %+v, want it declared and allowed %v", v, allow)
				}
			})
		}
	}
}

// TestWaits shows that facts which are being found out are waited for, and not
// for longer than the limit.
func TestWaits(t *testing.T) {
	n := 0
	j := &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) {
		if n++; n < 3 {
			return admission.Verdict{Outcome: admission.Wait, Again: time.Millisecond}, nil
		}
		return admission.Verdict{Outcome: admission.Allow}, nil
	}}
	if got := open(t, j, shop(), authz.Options{}).ask(empty("POST", "/containers/cart/start")); !got.Allow || n != 3 {
		t.Errorf("answer = %+v after %d questions, want yes after 3", got, n)
	}
	never := &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) {
		return admission.Verdict{Outcome: admission.Wait, Again: time.Hour}, nil
	}}
	got := open(t, never, shop(), authz.Options{}).ask(empty("POST", "/containers/cart/start"))
	if got.Allow || !strings.Contains(got.Msg, "try again") {
		t.Errorf("answer = %+v, want to be asked again", got)
	}
}

// TestReadingPassesWhileAllDecide shows that what the door itself asks the engine,
// which asks the door, never waits for a verdict.
func TestReadingPassesWhileAllDecide(t *testing.T) {
	const atOnce = 64
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	j := &judge{decide: func(context.Context, admission.Request) (admission.Verdict, error) {
		entered <- struct{}{}
		<-release
		return admission.Verdict{Outcome: admission.Allow}, nil
	}}
	d := open(t, j, shop(), authz.Options{Limit: time.Minute})
	var calls sync.WaitGroup
	for range 100 { // more than are decided at once
		calls.Go(func() {
			if got := d.ask(empty("POST", "/containers/"+idA+"/start")); !got.Allow {
				t.Errorf("answer = %+v, want yes", got)
			}
		})
	}
	for range atOnce {
		<-entered
	}
	if got := d.ask(empty("GET", "/v1.41/containers/"+idA+"/json")); !got.Allow {
		t.Errorf("answer = %+v, want yes", got)
	}
	close(release)
	calls.Wait()
}

// TestAnswersOfTheEngine shows that they pass, whatever is in them.
func TestAnswersOfTheEngine(t *testing.T) {
	d := open(t, denying(), shop(), authz.Options{})
	long := struct {
		RequestMethod, RequestURI string
		ResponseBody              []byte
	}{"GET", "/v1.41/containers/json", make([]byte, 8<<20)}
	for _, v := range []any{long, []int{1}, "x", nil} {
		if got := d.send("/AuthZPlugin.AuthZRes", v); !got.Allow {
			t.Errorf("answer = %+v, want yes", got)
		}
	}
}
