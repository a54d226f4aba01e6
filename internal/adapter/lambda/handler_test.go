package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/castellan-security/castellan/internal/adapter/lambda"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
)

// payload is one of testdata: "service/pre-scale-up".
func payload(t testing.TB, name string) []byte {
	t.Helper()
	archive, file, _ := strings.Cut(name, "/")
	a, err := txtar.ParseFile("testdata/" + archive + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name == file+".json" {
			return f.Data
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// world is all that a handler asks.
type world struct {
	body    string // of revisions, definitions and tasks
	digests map[string]string
	group   string
	err     error // of describing

	verdict admission.Verdict
	wrong   error // of deciding
	slow    bool  // deciding takes for ever

	asked   []admission.Request
	stopped []string
}

func (w *world) document() (admission.Document, error) {
	return admission.Document{Name: "web:7", Body: []byte(w.body), Digests: w.digests}, w.err
}

func (w *world) Revision(context.Context, string) (admission.Document, error)   { return w.document() }
func (w *world) Definition(context.Context, string) (admission.Document, error) { return w.document() }
func (w *world) Task(context.Context, string, string) (admission.Document, string, error) {
	d, err := w.document()
	return d, w.group, err
}

func (w *world) Stop(_ context.Context, cluster, task, reason string) error {
	w.stopped = append(w.stopped, reason)
	return nil
}

func (w *world) Decide(ctx context.Context, r *admission.Request) (admission.Verdict, error) {
	w.asked = append(w.asked, *r)
	if w.slow {
		<-ctx.Done()
		return admission.Verdict{}, fmt.Errorf("ask server: %w", ctx.Err())
	}
	return w.verdict, w.wrong
}

// Complete knows every role.
func (w *world) Complete(_ context.Context, r *admission.Role) error {
	r.Known = true
	return nil
}

// read makes a request of each task and repository of a template in JSON, or of one
// in YAML that has a container.
func read(_ context.Context, d admission.Document) ([]admission.Request, error) {
	if !json.Valid(d.Body) {
		if strings.Contains(string(d.Body), "AWS::ECS::TaskDefinition") {
			return []admission.Request{{Task: admission.Task{Family: "yaml"}}}, nil
		}
		return nil, nil
	}
	var t struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				Family               string
				TaskRoleArn          any
				TaskDefinition       any
				RepositoryName       string
				ContainerDefinitions []struct{ Name, Image string }
			}
		}
	}
	if err := json.Unmarshal(d.Body, &t); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	var all []admission.Request
	for _, name := range slices.Sorted(maps.Keys(t.Resources)) {
		p := t.Resources[name].Properties
		switch t.Resources[name].Type {
		case "AWS::ECS::TaskDefinition":
			r := admission.Request{Task: admission.Task{Family: p.Family}}
			switch arn := p.TaskRoleArn.(type) {
			case string:
				r.Task.Roles = []admission.Role{{Use: "task", ARN: arn}}
			case map[string]any:
				r.Unknown = []string{"task.roles"}
			}
			for _, c := range p.ContainerDefinitions {
				r.Task.Containers = append(r.Task.Containers, admission.Container{Name: c.Name, Image: admission.Image{Reference: c.Image}})
			}
			all = append(all, r)
		case "AWS::ECR::Repository":
			all = append(all, admission.Request{Repositories: []admission.Repository{{Name: p.RepositoryName}}})
		case "AWS::ECS::Service":
			if _, referred := p.TaskDefinition.(map[string]any); referred {
				for i := range all {
					all[i].Place.Service = "web"
				}
			}
		}
	}
	return all, nil
}

const (
	body   = `{"Resources":{"ATask":{"Type":"AWS::ECS::TaskDefinition","Properties":{"Family":"web","ContainerDefinitions":[{"Name":"web","Image":"shop/web:1"}]}}}}`
	digest = "sha256:74b2c688c700ec95a93e478cdb959737c148df3fbf5ea706abe0318726e885e6"
)

func allowed() admission.Verdict { return admission.Verdict{Outcome: admission.Allow} }

func denied() admission.Verdict {
	return admission.Verdict{Outcome: admission.Deny, Reasons: []admission.Reason{
		{Effect: admission.Audited, Rule: "pinned", Message: "its image is named by a tag", Severity: finding.Low},
		{Effect: admission.Denies, Rule: "privileged", Container: "web", Message: "it runs privileged", Remedy: "leave privileged away", Severity: finding.Critical},
	}}
}

func waiting() admission.Verdict {
	return admission.Verdict{Outcome: admission.Wait, Again: 45 * time.Second, Reasons: []admission.Reason{{Effect: admission.Waits, Rule: "scanned", Message: "its image is being scanned"}}}
}

// handler answers within a second, in the account and region of testdata.
func handler(w *world) (*lambda.Handler, *bytes.Buffer) {
	var log bytes.Buffer
	return &lambda.Handler{Tasks: w, Roles: w, Read: read, Decider: w, Stopper: w, Log: slog.New(slog.NewJSONHandler(&log, nil)), Within: time.Second}, &log
}

func invocation(b []byte) lambda.Invocation {
	return lambda.Invocation{ID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Payload: b}
}

// answers is a case of a door: what it is given, and what it says.
type answers struct {
	name, payload string
	change        func(*world, *lambda.Handler)
	want          string
}

func (tt *answers) run(t *testing.T) {
	t.Helper()
	w := &world{body: body, digests: map[string]string{"web": digest}, verdict: allowed()}
	h, log := handler(w)
	if tt.change != nil {
		tt.change(w, h)
	}
	out, err := h.Handle(t.Context(), invocation(payload(t, tt.payload)))
	got := string(out)
	if err != nil {
		got = "error: " + err.Error()
	}
	if diff := cmp.Diff(tt.want, got); diff != "" {
		t.Errorf("-want +got:\n%s\nlog:\n%s", diff, log)
	}
	if err == nil && !strings.Contains(log.String(), `"request_id":"8476a536-e9f4-11e8-9739-2dfe598c3fcd"`) {
		t.Errorf("the log does not tell: %s", log)
	}
}

func TestServiceHook(t *testing.T) {
	gone := fault.New(fault.Unavailable, "ask server: connection refused")
	for _, tt := range []answers{
		{"allowed", "service/pre-scale-up", nil, `{"hookStatus":"SUCCEEDED"}`},
		{"denied", "service/pre-scale-up", func(w *world, _ *lambda.Handler) { w.verdict = denied() }, `{"hookStatus":"FAILED"}`},
		{"zero verdict", "service/pre-scale-up", func(w *world, _ *lambda.Handler) { w.verdict = admission.Verdict{} }, `{"hookStatus":"FAILED"}`},
		{"waits", "service/pre-scale-up", func(w *world, _ *lambda.Handler) { w.verdict = waiting() }, `{"hookStatus":"IN_PROGRESS","callBackDelay":45,"hookDetails":{"castellanAsked":1}}`},
		{"waits again", "service/asked-again", func(w *world, _ *lambda.Handler) { w.verdict = waiting() }, `{"hookStatus":"IN_PROGRESS","callBackDelay":45,"hookDetails":{"castellanAsked":3}}`},
		{"has waited enough", "service/asked-again", func(w *world, h *lambda.Handler) { w.verdict, h.Asks = waiting(), 2 }, `{"hookStatus":"FAILED"}`},
		{"has waited enough, and may", "service/asked-again", func(w *world, h *lambda.Handler) { w.verdict, h.Asks, h.OnError = waiting(), 2, lambda.AllowOnError }, `{"hookStatus":"SUCCEEDED"}`},
		{"never waits", "service/pre-scale-up", func(w *world, h *lambda.Handler) { w.verdict, h.Asks = waiting(), -1 }, `{"hookStatus":"FAILED"}`},
		{"denied in spite of allow on errors", "service/pre-scale-up", func(w *world, h *lambda.Handler) { w.verdict, h.OnError = denied(), lambda.AllowOnError }, `{"hookStatus":"FAILED"}`},
		{"server away", "service/pre-scale-up", func(w *world, _ *lambda.Handler) { w.wrong = gone }, `{"hookStatus":"IN_PROGRESS","callBackDelay":30,"hookDetails":{"castellanAsked":1}}`},
		{"server away for long", "service/asked-again", func(w *world, h *lambda.Handler) { w.wrong, h.Asks = gone, 2 }, `{"hookStatus":"FAILED"}`},
		{"no time left", "service/pre-scale-up", func(w *world, h *lambda.Handler) { w.slow, h.Within = true, 20*time.Millisecond }, `{"hookStatus":"IN_PROGRESS","callBackDelay":30,"hookDetails":{"castellanAsked":1}}`},
		{"may not be looked at", "service/pre-scale-up", func(w *world, _ *lambda.Handler) { w.err = fault.New(fault.Denied, "AccessDenied") }, `{"hookStatus":"FAILED"}`},
		{"may not be looked at, and passes", "service/pre-scale-up", func(w *world, h *lambda.Handler) {
			w.err, h.OnError = fault.New(fault.Denied, "AccessDenied"), lambda.AllowOnError
		}, `{"hookStatus":"SUCCEEDED"}`},
		{"what is too much is denied in any case", "service/pre-scale-up", func(w *world, h *lambda.Handler) { w.body, h.OnError = many(101), lambda.AllowOnError }, `{"hookStatus":"FAILED"}`},
		{"nothing that can be read is no leave", "service/pre-scale-up", func(w *world, h *lambda.Handler) { w.body, h.OnError = `{"Resources":{}}`, lambda.AllowOnError }, `{"hookStatus":"FAILED"}`},
		{"before production traffic", "service/pre-production", func(w *world, _ *lambda.Handler) { w.verdict = denied() }, `{"hookStatus":"FAILED"}`},
		{"production traffic", "service/production", func(w *world, _ *lambda.Handler) { w.verdict = denied() }, `{"hookStatus":"FAILED"}`},
		{"rolling back", "service/rollback", func(w *world, _ *lambda.Handler) { w.verdict = denied() }, `{"hookStatus":"SUCCEEDED"}`},
	} {
		t.Run(tt.name, tt.run)
	}
}

// many is a template with n tasks.
func many(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"T%d":{"Type":"AWS::ECS::TaskDefinition","Properties":{"Family":"f%d"}}`, i, i))
	}
	return `{"Resources":{` + strings.Join(all, ",") + `}}`
}

func TestWhatTheServiceHookAsks(t *testing.T) {
	w := &world{body: body, digests: map[string]string{"web": digest}, verdict: denied()}
	h, log := handler(w)
	if _, err := h.Handle(t.Context(), invocation(payload(t, "service/pre-scale-up"))); err != nil {
		t.Fatal(err)
	}
	want := []admission.Request{{Door: admission.Service, Action: admission.Run,
		Place: admission.Place{Account: "123456789012", Region: "us-west-2", Cluster: "my-cluster", Service: "my-service"},
		Task:  admission.Task{Family: "web", Containers: []admission.Container{{Name: "web", Image: admission.Image{Reference: "shop/web:1", Digest: digest}}}}}}
	if len(w.asked) == 1 { // it says when
		if !strings.HasPrefix(w.asked[0].ID, "e8d5a28f-eb01-4f3c-9454-a30ba6dc54bc.") || !strings.HasSuffix(w.asked[0].ID, "/0") {
			t.Errorf("its id is %q", w.asked[0].ID)
		}
		want[0].At, want[0].ID = w.asked[0].At, w.asked[0].ID
	}
	if diff := cmp.Diff(want, w.asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, word := range []string{`"outcome":"deny"`, `"cluster":"my-cluster"`, `"rule":"privileged"`, `"rule":"pinned"`, `"remedy":"leave privileged away"`} {
		if !strings.Contains(log.String(), word) {
			t.Errorf("the log lacks %s: %s", word, log)
		}
	}
}

func TestTemplateHook(t *testing.T) {
	const token = `"clientRequestToken":"f8da6d11-b23f-48f4-814c-0fb6a667f50e"`
	const pass = `{"hookStatus":"SUCCESS","message":"Castellan has nothing against it",` + token + `}`
	const refusal = `{"hookStatus":"FAILED","errorCode":"NonCompliant","message":"Castellan refuses it:\nprivileged: web: it runs privileged – leave privileged away",` + token +
		`,"annotations":[{"annotationName":"privileged","status":"FAILED","statusMessage":"web: it runs privileged","remediationMessage":"leave privileged away","severityLevel":"CRITICAL"},` +
		`{"annotationName":"pinned","status":"SKIPPED","statusMessage":"its image is named by a tag","severityLevel":"LOW"}]}`
	deny := func(w *world, _ *lambda.Handler) { w.verdict = denied() }
	for _, tt := range []answers{
		{"allowed", "template/definition", nil, pass},
		{"denied", "template/definition", deny, refusal},
		{"service with its definition", "template/service", deny, refusal},
		{"repository by Cloud Control", "template/repository", deny, refusal},
		{"another type of resource", "template/table", deny, pass},
		{"deleted", "template/definition-deleted", deny, pass},
		{"waits", "template/definition", func(w *world, _ *lambda.Handler) { w.verdict = waiting() },
			`{"hookStatus":"IN_PROGRESS","message":"Castellan is finding out about its images",` + token + `,"callbackDelaySeconds":45}`},
		{"the third time is the last", "template/definition-third", func(w *world, _ *lambda.Handler) { w.verdict = waiting() },
			`{"hookStatus":"FAILED","errorCode":"InternalFailure","message":"Castellan refuses it: what is to be known of it was not found out in time.\nscanned: its image is being scanned",` + token +
				`,"annotations":[{"annotationName":"scanned","status":"SKIPPED","statusMessage":"its image is being scanned","severityLevel":"INFORMATIONAL"}]}`},
		{"nobody could decide", "template/definition", func(w *world, _ *lambda.Handler) { w.wrong = errors.New("no policy") },
			`{"hookStatus":"FAILED","errorCode":"InternalFailure","message":"Castellan could not decide: decide on Web: no policy",` + token + `}`},
		{"nobody could decide, and it passes", "template/definition", func(w *world, h *lambda.Handler) { w.wrong, h.OnError = errors.New("no policy"), lambda.AllowOnError },
			`{"hookStatus":"SUCCESS","message":"Castellan could not decide, and lets it through as it is set up to: decide on Web: no policy",` + token + `}`},
		{"the definition of a service is gone", "template/service", func(w *world, _ *lambda.Handler) { w.err = fault.New(fault.NotFound, "there is none") },
			`{"hookStatus":"FAILED","errorCode":"InternalFailure","message":"Castellan could not decide: read task definition arn:aws:ecs:us-west-2:123456789012:task-definition/web:7: there is none",` + token + `}`},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestStacksAndChangeSets(t *testing.T) {
	s3 := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/stack", http.StatusFound)
		case "/gone":
			http.Error(w, "expired", http.StatusForbidden)
		case "/large":
			_, _ = w.Write(bytes.Repeat([]byte(" "), 33<<20))
		case "/empty":
			_, _ = w.Write([]byte(`{"template":"","previousTemplate":""}`))
		case "/odd":
			_, _ = w.Write([]byte(`[]`))
		default:
			_, _ = w.Write(payload(t, "template"+r.URL.Path+"-payload"))
		}
	}))
	defer s3.Close()
	for _, tt := range []struct {
		name, payload, at, endpoint string
		status, says                string
		unknown                     bool
	}{
		{"stack", "template/stack", s3.URL + "/stack", s3.URL, "FAILED", "privileged", false},
		{"stack in other letters", "template/stack-other-case", s3.URL + "/stack", s3.URL, "FAILED", "privileged", false},
		{"change set", "template/change-set", s3.URL + "/change-set", s3.URL, "FAILED", "privileged", true},
		{"stack that is deleted", "template/stack", s3.URL + "/empty", s3.URL, "SUCCESS", "nothing against it", false},
		{"sent elsewhere", "template/stack", s3.URL + "/moved", s3.URL, "IN_PROGRESS", "", false},
		{"expired", "template/stack", s3.URL + "/gone", s3.URL, "IN_PROGRESS", "", false},
		{"too large", "template/stack", s3.URL + "/large", s3.URL, "FAILED", "more than 33554432 bytes", false},
		{"odd", "template/stack", s3.URL + "/odd", s3.URL, "FAILED", "not read", false},
		{"not S3", "template/stack", s3.URL + "/stack", "", "FAILED", "no address of Amazon S3", false},
		{"the host's metadata", "template/stack", "http://169.254.169.254/latest/", "", "FAILED", "no address of Amazon S3", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{verdict: denied()}
			h, log := handler(w)
			h.OnError = lambda.AllowOnError // none of this is an error that it is for
			h.Objects = lambda.Objects{Endpoint: tt.endpoint, Client: s3.Client()}
			b := bytes.Replace(payload(t, tt.payload), []byte("https://s3.us-west-2.amazonaws.com/hooks/payload?X-Amz-Signature=0"), []byte(tt.at), 1)
			out, err := h.Handle(t.Context(), invocation(b))
			if err != nil {
				t.Fatal(err)
			}
			var got lambda.TemplateAnswer
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.status || !strings.Contains(got.Message, tt.says) || got.Token != "f8da6d11-b23f-48f4-814c-0fb6a667f50e" {
				t.Errorf("got %s, want %s with %q\n%s", out, tt.status, tt.says, log)
			}
			if tt.unknown != (len(w.asked) == 1 && len(w.asked[0].Unknown) == 1) {
				t.Errorf("asked %+v", w.asked)
			}
		})
	}
}

func TestLongRefusalsAreCut(t *testing.T) {
	v := admission.Verdict{Outcome: admission.Deny}
	for i := range 200 {
		v.Reasons = append(v.Reasons, admission.Reason{Effect: admission.Denies, Rule: fmt.Sprint("rule-", i), Message: strings.Repeat("long ", 20) + "\x1b[31m"})
	}
	for name, limit := range map[string]int{"template/definition": 4096, "template/repository": 1024} {
		w := &world{verdict: v}
		h, log := handler(w)
		out, err := h.Handle(t.Context(), invocation(payload(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		var got lambda.TemplateAnswer
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Message) > limit || !strings.Contains(got.Message, "more") || len(got.Annotations) != 30 || strings.Contains(got.Message, "\x1b") {
			t.Errorf("%s: a message of %d bytes and %d annotations", name, len(got.Message), len(got.Annotations))
		}
		for line := range strings.Lines(log.String()) {
			if len(line) > 200<<10 || !json.Valid([]byte(line)) {
				t.Errorf("a line of %d bytes in the log", len(line))
			}
		}
	}
}
