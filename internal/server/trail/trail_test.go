package trail_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/trail"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const task = "0123456789abcdef0123456789abcdef"

// kept is what the service needs of a store.
type kept struct {
	mu      sync.Mutex
	trails  []store.WatchedTrail
	fleet   []asset.Workload
	stats   []threat.RuleStats
	audits  []access.Audit
	learned map[string]json.RawMessage
}

func (k *kept) PutDetectionMemories(_ context.Context, memories map[string]json.RawMessage) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.learned == nil {
		k.learned = map[string]json.RawMessage{}
	}
	maps.Copy(k.learned, memories)
	return nil
}

func (k *kept) DetectionMemories(context.Context) (map[string]json.RawMessage, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.learned), nil
}

func (k *kept) PutTrail(_ context.Context, t store.WatchedTrail) (store.WatchedTrail, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trails = append(slices.DeleteFunc(k.trails, func(o store.WatchedTrail) bool { return o.Name == t.Name }), t)
	return t, nil
}

func (k *kept) DeleteTrail(_ context.Context, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trails = slices.DeleteFunc(k.trails, func(o store.WatchedTrail) bool { return o.Name == name })
	return nil
}

func (k *kept) Trails(context.Context) ([]store.WatchedTrail, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.trails), nil
}

func (k *kept) Workloads(context.Context, store.WorkloadQuery) ([]asset.Workload, error) {
	return k.fleet, nil
}

func (k *kept) Agent(context.Context, string) (asset.Agent, error) { return asset.Agent{}, nil }

func (k *kept) PutDetectionStats(_ context.Context, reporter, _ string, stats []threat.RuleStats) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if reporter != trail.Reporter {
		return fmt.Errorf("reporter %q", reporter)
	}
	k.stats = stats
	return nil
}

func (k *kept) AppendAudit(_ context.Context, a access.Audit) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.audits = append(k.audits, a)
	return nil
}

// taker is where threats go; it refuses so many times first.
type taker struct {
	mu     sync.Mutex
	refuse int
	got    []*threat.Threat
	came   chan struct{}
}

func (r *taker) Texts(context.Context) ([]detect.Text, string, error) { return nil, "1", nil }

func (r *taker) Take(_ context.Context, agent string, all []*threat.Threat) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse > 0 {
		r.refuse--
		return errors.New("the store is busy")
	}
	for _, t := range all {
		if t.AgentID != agent {
			return fault.New(fault.Invalid, "a threat of %q told by %q", t.AgentID, agent)
		}
	}
	r.got = append(r.got, all...)
	if r.came != nil {
		r.came <- struct{}{}
	}
	return nil
}

func service(k *kept, r *taker, d trail.Door, condition func(context.Context, string, error)) *trail.Service {
	return trail.New(trail.Options{Store: k, Rules: r, Door: d, Condition: condition, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
}

// call is one by the task's role.
func call(id, name, source, agent string, at time.Time) *event.Event {
	service, op, _ := strings.Cut(name, ":")
	return &event.Event{Version: 1, Kind: event.KindCall, Time: at, Boot: id, Call: &event.Call{
		ID: id, Account: "123456789012", Region: "eu-west-1", Service: service, Name: op, Source: source, Agent: agent,
		Actor: event.Actor{Type: "AssumedRole", ARN: "arn:aws:sts::123456789012:assumed-role/web/" + task, Account: "123456789012", Name: "web", Session: task, Role: "arn:aws:iam::123456789012:role/web"},
	}}
}

func TestCredentialsLeadToTheirTask(t *testing.T) {
	finished := now.Add(-2 * time.Hour)
	k := &kept{fleet: []asset.Workload{{ID: strings.Repeat("a", 64), AgentID: "host-1", Group: "shop/web/app", State: asset.Exited, Finished: &finished, ECS: asset.ECS{TaskID: task, Account: "123456789012"}}}}
	r := &taker{}
	n, repeated, err := service(k, r, nil, nil).Look(t.Context(), []*event.Event{
		call("e1", "s3:ListBuckets", "203.0.113.5", "aws-cli/2", now), call("e1", "s3:ListBuckets", "203.0.113.5", "aws-cli/2", now),
	})
	if err != nil || n != 1 || repeated != 1 || len(r.got) != 1 {
		t.Fatalf("%d threats, %d repeated, %d told, %v", n, repeated, len(r.got), err)
	}
	got := r.got[0]
	if got.Rule != "trail-session-elsewhere" || got.WorkloadID != strings.Repeat("a", 64) || got.Group != "shop/web/app" || got.AgentID != "host-1" || !strings.Contains(got.Summary, "after the task had ended") {
		t.Errorf("%+v", got)
	}
	if got.Call == nil || got.Call.Name != "s3:ListBuckets" || got.Call.Account != "123456789012" || len(got.Peers) != 1 {
		t.Errorf("call %+v, peers %v", got.Call, got.Peers)
	}
}

// queue gives what it has, and hears what was taken from it.
type queue struct {
	mu    sync.Mutex
	calls []*event.Event
	err   error
	taken chan int
}

func (q *queue) Receive(ctx context.Context, _ asset.Trail, take func(*event.Event) error) (n asset.TrailCounts, done func(context.Context) error, err error) {
	q.mu.Lock()
	calls, err := q.calls, q.err
	q.calls, q.err = nil, nil
	q.mu.Unlock()
	if calls == nil && err == nil {
		<-ctx.Done()
		return n, func(context.Context) error { return nil }, ctx.Err()
	}
	for _, e := range calls {
		if err := take(e); err != nil {
			return n, nil, err
		}
		n.Calls++
	}
	return n, func(context.Context) error { q.taken <- len(calls); return nil }, err
}

func (q *queue) Test(context.Context, asset.Trail) (string, error) { return "well", nil }

func TestATrailIsReadUntilItIsRemoved(t *testing.T) {
	stopped := call("e1", "cloudtrail:StopLogging", "203.0.113.5", "aws-cli/2", now)
	q := &queue{calls: []*event.Event{stopped}, taken: make(chan int, 1)}
	k, r := &kept{}, &taker{refuse: 1}
	s := service(k, r, q, nil)
	anna := access.Identity{Actor: "user:anna", Scopes: []access.Scope{access.ReadDetect, access.WriteDetect}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	if _, err := s.Put(ctx, anna, asset.Trail{Name: "main", Queue: "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}); err != nil {
		t.Fatal(err)
	}
	if n := <-q.taken; n != 1 { // when the threats were kept, at the second try
		t.Errorf("%d messages taken from the queue", n)
	}
	r.mu.Lock()
	if !slices.ContainsFunc(r.got, func(x *threat.Threat) bool { return x.Rule == "trail-trail-stopped" }) {
		t.Errorf("%d threats told before it was taken from the queue", len(r.got))
	}
	r.mu.Unlock()
	all, err := s.Trails(ctx, anna)
	if err != nil || len(all) != 1 || all[0].Counts.Calls != 1 || all[0].Threats == 0 {
		t.Errorf("trails %+v, %v", all, err)
	}
	if err := s.Remove(ctx, anna, "main"); err != nil {
		t.Fatal(err)
	}
	stop()
	<-ended
	if len(k.stats) == 0 || len(k.audits) != 2 {
		t.Errorf("%d rules told how they fare, %d changes audited", len(k.stats), len(k.audits))
	}
}

// until starts a service that reads calls from a queue, and ends it when they are taken
// from there.
func until(t *testing.T, k *kept, r *taker, calls ...*event.Event) {
	t.Helper()
	q := &queue{calls: calls, taken: make(chan int, 1)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { service(k, r, q, nil).Run(ctx); close(ended) }()
	<-q.taken
	stop()
	<-ended
}

// push is that a pipeline pushed an image.
func push(id, digest string, at time.Time) *event.Event {
	e := call(id, "ecr:PutImage", "203.0.113.5", "aws-sdk-go-v2/1.30", at)
	e.Call.Actor = event.Actor{Type: "IAMUser", ARN: "arn:aws:iam::123456789012:user/pipeline", Account: "123456789012", Name: "pipeline"}
	e.Call.Request = []byte(`{"repositoryName":"web","imageTag":"v1"}`)
	e.Call.Response = []byte(`{"image":{"imageId":{"imageDigest":"sha256:` + strings.Repeat(digest, 64) + `","imageTag":"v1"}}}`)
	return e
}

func TestWhatRulesLearnedOutlivesTheServer(t *testing.T) {
	later := now.Add(3 * time.Hour)
	stolen := call("e3", "s3:ListBuckets", "198.51.100.9", "aws-cli/2", later)
	over := push("e4", "b", later)
	for name, test := range map[string]struct {
		learned map[string]json.RawMessage // in the place of what was stored; nil is that
		want    []string
	}{
		"kept":       {nil, []string{"trail-image-over-tag", "trail-session-elsewhere"}},
		"unreadable": {map[string]json.RawMessage{"trail-image-over-tag": []byte("{"), "trail-session-elsewhere": []byte(`{"sessions":[{"value":null}],"shared":[{"value":null}]}`)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kept{trails: []store.WatchedTrail{{Trail: asset.Trail{Name: "main", Queue: "q"}}}}
			r := &taker{}
			until(t, k, r, call("e1", "s3:GetObject", "203.0.113.5", "aws-sdk-go-v2/1.30", now), push("e2", "a", now))
			if len(r.got) > 0 {
				t.Fatalf("told at first: %+v", r.got[0])
			}
			if test.learned != nil {
				k.learned = test.learned
			}
			until(t, k, r, stolen, over)
			var got []string
			for _, x := range r.got {
				if x.Rule == "trail-image-over-tag" || x.Rule == "trail-session-elsewhere" {
					got = append(got, x.Rule)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("told after the server started again: %v, want %v", got, test.want)
			}
		})
	}
}

func TestWhatIsWrongIsTold(t *testing.T) {
	q := &queue{err: fault.New(fault.Denied, "receive: no").With("permit it"), taken: make(chan int, 1)}
	k := &kept{trails: []store.WatchedTrail{{Trail: asset.Trail{Name: "main", Queue: "q"}}}}
	told := make(chan error, 10)
	s := service(k, &taker{}, q, func(_ context.Context, part string, err error) {
		if part == "trail main" {
			told <- err
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	if err := <-told; err == nil || fault.Remedy(err) != "permit it" {
		t.Errorf("told %v", err)
	}
	all, err := s.Trails(ctx, access.Identity{Actor: "user:jo", Scopes: []access.Scope{access.ReadDetect}})
	if err != nil || len(all) != 1 || all[0].Condition != "failing" {
		t.Errorf("%+v, %v", all, err)
	}
	stop()
	<-ended
}

func TestNobodyWithoutTheRight(t *testing.T) {
	s := service(&kept{}, &taker{}, nil, nil)
	if _, err := s.Put(t.Context(), access.Identity{Actor: "user:jo", Scopes: []access.Scope{access.ReadDetect}}, asset.Trail{Name: "a"}); !fault.Is(err, fault.Denied) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Trails(t.Context(), access.Identity{}); err == nil {
		t.Errorf("list: %v", err)
	}
}

// BenchmarkLook is what a call costs with all rules.
func BenchmarkLook(b *testing.B) {
	names := []string{"s3:GetObject", "ecs:DescribeTasks", "sts:AssumeRole", "logs:PutLogEvents", "secretsmanager:GetSecretValue", "ecs:RegisterTaskDefinition"}
	s := service(&kept{}, &taker{}, nil, nil)
	var batch []*event.Event
	b.ReportAllocs()
	for n := range b.N {
		batch = append(batch, call(fmt.Sprint(n), names[n%len(names)], "203.0.113.5", "aws-sdk-go-v2/1.30", now.Add(time.Duration(n)*time.Second)))
		if len(batch) == 1000 || n == b.N-1 {
			if _, _, err := s.Look(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
}
