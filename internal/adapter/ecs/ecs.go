// Package ecs is the door to what Amazon ECS itself says on a container
// instance: the ECS agent's introspection endpoint, and the task metadata
// endpoint (version 4) where Castellan runs as a task. It fills in the identity
// that labels alone don't tell, or that a container was started without.
//
// It is not for the AWS API. That matters for one word: the name of the service
// that owns a task. No label and no introspection tells it; task metadata does
// (ECS agent 1.63.1 or later), but only for the task that asks, which is
// Castellan's own. For every other task the service stays empty, and its group
// is named after its family, until the AWS API is asked.
package ecs

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

const (
	// DefaultIntrospectionURL is where the ECS agent answers on a container
	// instance. Castellan must share the host's network to reach it. By number: a
	// container waits for the answer, also where nobody listens, and the name would be
	// looked up and tried at ::1 first.
	DefaultIntrospectionURL = "http://127.0.0.1:51678"
	// metadataEnv is set by ECS in every container of a task.
	metadataEnv = "ECS_CONTAINER_METADATA_URI_V4"

	// answerWithin bounds one question. Both endpoints answer from memory on the
	// same host; two questions stay well below the second that Identify has.
	answerWithin = 300 * time.Millisecond
	// freshFor is how long an answer about tasks is used for containers that are
	// in it; one that is not in it is asked for again after newsAfter.
	freshFor  = time.Minute
	newsAfter = time.Second
	// awayFor is how long nobody is asked again after nobody answered: on plain
	// Docker nobody ever will.
	awayFor = time.Minute
)

// Options say where to ask.
type Options struct {
	// IntrospectionURL is the address of the ECS agent; empty means
	// DefaultIntrospectionURL.
	IntrospectionURL string
	// MetadataURL is the task metadata endpoint of Castellan's own container;
	// empty means what ECS_CONTAINER_METADATA_URI_V4 says, and without that
	// nobody is asked.
	MetadataURL string
}

// Identifier asks ECS who the containers of this host are. Its methods may be
// called concurrently.
type Identifier struct {
	log  *slog.Logger
	http *http.Client

	mu       sync.Mutex
	instance source[instance]
	tasks    source[tasks]
	own      source[ownTask]
}

// New returns an identifier that has not asked anybody yet.
func New(o Options, log *slog.Logger) *Identifier {
	agent := strings.TrimSuffix(o.IntrospectionURL, "/")
	if agent == "" {
		agent = DefaultIntrospectionURL
	}
	metadata := strings.TrimSuffix(o.MetadataURL, "/")
	if metadata == "" {
		metadata = strings.TrimSuffix(os.Getenv(metadataEnv), "/")
	}
	i := &Identifier{
		log: log,
		http: &http.Client{
			Timeout: answerWithin,
			// No proxy: neither endpoint is ever behind one, and what a proxy
			// answers is not ECS.
			Transport: &http.Transport{Proxy: nil, MaxIdleConns: 2, IdleConnTimeout: freshFor, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		instance: source[instance]{url: agent + "/v1/metadata", limit: maxInstanceBody, parse: parseInstance},
		tasks:    source[tasks]{url: agent + "/v1/tasks", limit: maxTasksBody, parse: parseTasks},
	}
	if metadata != "" {
		i.own = source[ownTask]{url: metadata + "/task", limit: maxTaskBody, parse: parseOwnTask}
	}
	return i
}

// Instance names the ECS container instance and the cluster of this host. Both
// are empty when no ECS agent answers.
func (i *Identifier) Instance(ctx context.Context) (arn, cluster string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	at, _ := i.instance.get(ctx, i, freshFor)
	return at.arn, at.cluster
}

// Identify fills the empty ECS fields of ws in place, each container found by
// its id. What labels said is kept. Where nobody answers nothing changes; an
// endpoint that is away is asked again after a minute. It returns within a
// second, sooner when ctx ends.
func (i *Identifier) Identify(ctx context.Context, ws []asset.Workload) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := range ws {
		w := &ws[n]
		if !complete(w.ECS) {
			fill(&w.ECS, i.task(ctx, w.ID))
		}
		if w.ECS.Service == "" {
			own, _ := i.own.get(ctx, i, freshFor)
			fill(&w.ECS, own.of(*w))
		}
		w.Group = asset.GroupOf(*w)
	}
}

// task returns what introspection says of a container.
func (i *Identifier) task(ctx context.Context, id string) asset.ECS {
	all, ok := i.tasks.get(ctx, i, freshFor)
	if !ok {
		return asset.ECS{}
	}
	e, known := all.byID[id]
	if !known {
		all, _ = i.tasks.get(ctx, i, newsAfter)
		e, known = all.byID[id]
	}
	return i.placed(ctx, e, known)
}

// placed completes an identity that is known: task ARNs of before 2018 don't tell
// the cluster.
func (i *Identifier) placed(ctx context.Context, e asset.ECS, known bool) asset.ECS {
	if known && e.Cluster == "" {
		at, _ := i.instance.get(ctx, i, freshFor)
		e.Cluster = at.cluster
	}
	return e
}

// Task says of which task a container is, by its id or, if that is empty, by the
// name under which the ECS agent is about to make it. The ECS agent itself is
// asked, at once if it did not name the container before; answers says whether it
// does. The pause container, and what else the agent starts for itself, it names
// nobody.
func (i *Identifier) Task(ctx context.Context, id, name string) (e asset.ECS, answers bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	find := func(all tasks) (known bool) {
		if id != "" {
			e, known = all.byID[id]
			return known
		}
		e, known = all.byName[name]
		return known
	}
	i.tasks.again(newsAfter) // a container waits: a minute is too long
	all, answers := i.tasks.get(ctx, i, freshFor)
	known := find(all)
	// Not by a name that it had a while ago: by now it may be another's.
	if answers && (!known || id == "") {
		all, answers = i.tasks.get(ctx, i, 0)
		known = find(all)
	}
	return i.placed(ctx, e, known), answers
}

// complete reports whether e says all that introspection could.
func complete(e asset.ECS) bool {
	return e.TaskARN != "" && e.Cluster != "" && e.Family != "" && e.Revision != "" && e.Container != ""
}

// fill copies into e what it lacks, unless from is of another task.
func fill(e *asset.ECS, from asset.ECS) {
	if e.TaskARN != "" && from.TaskARN != e.TaskARN {
		return
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&e.Account, from.Account},
		{&e.Region, from.Region},
		{&e.Cluster, from.Cluster},
		{&e.Service, from.Service},
		{&e.Family, from.Family},
		{&e.Revision, from.Revision},
		{&e.TaskARN, from.TaskARN},
		{&e.TaskID, from.TaskID},
		{&e.Container, from.Container},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
}
