package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/lambda"
	"github.com/castellan-security/castellan/internal/fault"
)

// standin is Lambda's runtime interface: it has payloads, and keeps answers.
type standin struct {
	*httptest.Server
	payloads [][]byte
	deadline time.Duration
	end      context.CancelFunc // called when all are answered
	answers  []string           // "response ID BODY"
	refuse   int                // status for answers, 0: accepted
}

func newStandin(t *testing.T, payloads ...[]byte) (*standin, context.Context) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &standin{payloads: payloads, deadline: 5 * time.Second, end: cancel}
	n := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		if n == len(s.payloads) {
			cancel()
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprint("id-", n))
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(s.deadline).UnixMilli()))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-west-2:123456789012:function:castellan")
		n++
		_, _ = w.Write(s.payloads[n-1])
	})
	keep := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			s.answers = append(s.answers, strings.TrimSpace(kind+" "+r.PathValue("id")+" "+r.Header.Get("Lambda-Runtime-Function-Error-Type")+" "+string(b)))
			w.WriteHeader(max(s.refuse, http.StatusAccepted))
		}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", keep("response"))
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", keep("error"))
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", keep("init"))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s, ctx
}

func (s *standin) runtime() *lambda.Runtime {
	return lambda.NewRuntime(strings.TrimPrefix(s.URL, "http://"), slog.New(slog.DiscardHandler))
}

func TestRuntimeAnswersEveryInvocation(t *testing.T) {
	s, ctx := newStandin(t, []byte(`"good"`), []byte(`"bad"`), []byte(`"panic"`), []byte(`"slow"`), bytes.Repeat([]byte("x"), 7<<20), []byte(`"good"`))
	s.deadline = 800 * time.Millisecond // of which the door keeps 750 for itself
	err := s.runtime().Serve(ctx, func(ctx context.Context, in lambda.Invocation) ([]byte, error) {
		switch string(in.Payload) {
		case `"good"`:
			return []byte(`{"hookStatus":"SUCCEEDED"}`), nil
		case `"bad"`:
			return nil, fault.New(fault.Invalid, "no such thing\x1b[31m").With("mend it")
		case `"panic"`:
			panic("at the wrong place")
		case `"slow"`:
			<-ctx.Done() // far before Lambda's own end
			return []byte(`{"hookStatus":"FAILED"}`), nil
		}
		t.Errorf("a payload of %d bytes was handed on", len(in.Payload))
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`response id-0  {"hookStatus":"SUCCEEDED"}`,
		`error id-1 Castellan.invalid {"errorMessage":"no such thing\\x1b[31m; mend it","errorType":"Castellan.invalid","stackTrace":[]}`,
		`error id-2 Castellan.Error {"errorMessage":"answer invocation: panic: at the wrong place","errorType":"Castellan.Error","stackTrace":[]}`,
		`response id-3  {"hookStatus":"FAILED"}`,
		`error id-4 Castellan.invalid {"errorMessage":"the payload has more than 6356992 bytes","errorType":"Castellan.invalid","stackTrace":[]}`,
		`response id-5  {"hookStatus":"SUCCEEDED"}`,
	}
	if diff := cmp.Diff(want, s.answers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRuntimeGoesOnAfterAnAnswerThatIsRefused(t *testing.T) {
	s, ctx := newStandin(t, []byte(`1`), []byte(`2`))
	s.refuse = http.StatusRequestEntityTooLarge
	if err := s.runtime().Serve(ctx, func(context.Context, lambda.Invocation) ([]byte, error) { return []byte(`{}`), nil }); err != nil || len(s.answers) != 2 {
		t.Errorf("%v, %q", err, s.answers)
	}
	s, ctx = newStandin(t, []byte(`1`))
	s.refuse = http.StatusInternalServerError // Lambda is to end the function
	if err := s.runtime().Serve(ctx, func(context.Context, lambda.Invocation) ([]byte, error) { return []byte(`{}`), nil }); err == nil {
		t.Error("it goes on although Lambda is broken")
	}
}

func TestRuntimeTellsWhyItCannotStart(t *testing.T) {
	s, _ := newStandin(t)
	if err := s.runtime().InitError(t.Context(), fault.New(fault.Invalid, "CASTELLAN_ON_ERROR: perhaps").With("say deny or allow")); err != nil {
		t.Fatal(err)
	}
	want := []string{`init  Castellan.invalid {"errorMessage":"CASTELLAN_ON_ERROR: perhaps; say deny or allow","errorType":"Castellan.invalid","stackTrace":[]}`}
	if diff := cmp.Diff(want, s.answers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPayloadsThatAreNone(t *testing.T) {
	edit := func(name, old, with string) []byte {
		b := payload(t, name)
		out := bytes.ReplaceAll(b, []byte(old), []byte(with))
		if bytes.Equal(b, out) {
			t.Fatalf("%s has no %s", name, old)
		}
		return out
	}
	both := bytes.Replace(payload(t, "service/pre-scale-up"), []byte("{"), []byte(`{"requestData":{"targetName":"AWS::DynamoDB::Table"},`), 1)
	for _, tt := range []struct {
		name string
		b    []byte
		says string
	}{
		{"nothing", nil, "not read"},
		{"an empty object", []byte(`{}`), "neither"},
		{"a list", []byte(`[]`), "not read"},
		{"two at once", both, "neither"},
		{"a scheduled event", []byte(`{"id":"1","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`), "Scheduled Event"},
		{"somebody's own event", edit("task/running", `"aws.ecs"`, `"my.app"`), "my.app"},
		{"another's task", edit("task/running", `"account": "111122223333"`, `"account": "999999999999"`), "is not of the cluster, account"},
		{"a task of another cluster", edit("task/running", "cluster/FargateCluster", "cluster/other"), "is not of the cluster"},
		{"no ARN of a task", edit("task/running", `"taskArn": "arn:aws:ecs`, `"taskArn": "arn:aws:ec2`), "no ARNs"},
		{"a revision of another service", edit("service/pre-scale-up", "service-revision/my-cluster/my-service", "service-revision/my-cluster/other"), "is not of the service"},
		{"a revision of another account", edit("service/pre-scale-up", "arn:aws:ecs:us-west-2:123456789012:service-revision", "arn:aws:ecs:us-west-2:999999999999:service-revision"), "is not of the service"},
		{"a deployment in place of a revision", edit("service/pre-scale-up", ":service-revision/", ":service-deployment/"), "no ARN of a service's revision"},
		{"a hook's target that is none", edit("template/definition", `"targetName": "AWS::ECS::TaskDefinition"`, `"targetName": "WHOLE_STACK"`), "neither STACK"},
		{"an endless token", edit("template/definition", "f8da6d11", strings.Repeat("f", 5000)), "too long"},
		{"nested without end", bytes.Repeat([]byte(`{"detail":`), 200_000), "not read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{body: body, verdict: allowed()}
			h, _ := handler(w)
			h.OnError = lambda.AllowOnError // which it is not for
			out, err := h.Handle(t.Context(), invocation(tt.b))
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.says) || fault.Remedy(err) == "" {
				t.Errorf("got %s, %v; want an error with %q", out, err, tt.says)
			}
			if len(w.asked)+len(w.stopped) > 0 {
				t.Errorf("asked %v, stopped %v", w.asked, w.stopped)
			}
		})
	}
}

// TestNumbersInOtherForms: what is not needed for a verdict does not stand in its way,
// however it is written.
func TestNumbersInOtherForms(t *testing.T) {
	edit := func(name string, pairs ...string) lambda.Event {
		b := string(payload(t, name))
		out := strings.NewReplacer(pairs...).Replace(b)
		if out == b {
			t.Fatalf("%s has none of %q", name, pairs)
		}
		e, err := lambda.Read([]byte(out))
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return e
	}
	for _, weights := range []string{`null`, `"none"`, `[]`, `{"a": "many"}`, `{"a": null}`} {
		if e := edit("service/pre-scale-up", `{},`, weights+",", `: {}`, ": "+weights); e.Service == nil || e.Service.Back {
			t.Errorf("%s: %+v", weights, e.Service)
		}
	}
	if e := edit("service/rollback", ": 100", `: "100"`, ": 0", `: "0"`); e.Service == nil || !e.Service.Back {
		t.Errorf("weights as text: %+v, want a deployment that is rolled back", e.Service)
	}
	for _, tt := range []struct {
		invocation string
		want       int
	}{{`"2"`, 2}, {`null`, 1}, {`-4`, 1}, {`1e99`, 1}, {`{}`, 1}} {
		if e := edit("template/definition", `"invocation": 1`, `"invocation": `+tt.invocation); e.Template == nil || e.Template.Asked != tt.want {
			t.Errorf("invocation %s: %+v, want %d", tt.invocation, e.Template, tt.want)
		}
	}
}

func TestOtherAccountsAndRegions(t *testing.T) {
	for _, name := range []string{"service/pre-scale-up", "task/running"} {
		w := &world{body: body, verdict: denied()}
		h, _ := handler(w)
		in := invocation(payload(t, name))
		in.Function = "arn:aws:lambda:us-west-2:444444444444:function:castellan"
		if out, err := h.Handle(t.Context(), in); !fault.Is(err, fault.Invalid) || len(w.stopped) > 0 {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
}

// FuzzRead: whatever comes, it is one of the three or an error, and what is taken
// from it is bounded.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"service/pre-scale-up", "service/rollback", "service/asked-again", "template/definition", "template/stack", "template/change-set", "task/running", "task/stopping"} {
		f.Add(payload(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := lambda.Read(b)
		if err != nil {
			if fault.Of(err) != fault.Invalid {
				t.Errorf("%v is not of the kind invalid", err)
			}
			return
		}
		switch {
		case e.Service != nil && e.Template == nil && e.Task == nil:
			if s := e.Service; s.At.Cluster == "" || s.At.Service == "" || s.Asked < 0 || s.Asked > 2000 {
				t.Errorf("took %+v", s)
			}
		case e.Template != nil && e.Service == nil && e.Task == nil:
			if x := e.Template; x.Asked < 1 || len(x.Token) > 2048 || x.Kind == "" || (x.Kind == lambda.TargetResource) == (x.Type == "") {
				t.Errorf("took %+v", x)
			}
		case e.Task != nil && e.Service == nil && e.Template == nil:
			if x := e.Task; x.At.Cluster == "" || x.At.TaskID == "" || x.At.Account == "" {
				t.Errorf("took %+v", x)
			}
		default:
			t.Errorf("took %+v", e)
		}
	})
}

// FuzzHandle: whatever comes, it is answered in one of the protocols or is an
// error, and nothing that is refused passes.
func FuzzHandle(f *testing.F) {
	for _, name := range []string{"service/pre-scale-up", "template/definition", "template/service", "template/repository", "task/running"} {
		f.Add(payload(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &world{body: body, verdict: denied()}
		h, _ := handler(w)
		out, err := h.Handle(t.Context(), invocation(b))
		if err != nil {
			return
		}
		var a struct{ HookStatus, Action string }
		if err := json.Unmarshal(out, &a); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if len(w.asked) > 0 && (a.HookStatus == "SUCCESS" || a.HookStatus == "SUCCEEDED" || a.Action == "allowed") {
			t.Errorf("what was refused passes: %s", out)
		}
	})
}
