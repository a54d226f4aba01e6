// Package lambda is the door to AWS Lambda, and through it three doors of
// deployment: the lifecycle hook of an ECS service's deployment, the hook of
// CloudFormation, and the reaction to what EventBridge tells of tasks.
//
// A Runtime takes invocations from Lambda's runtime interface. A Handler
// recognises which of the three asks, has what is asked for described by whoever
// knows AWS, makes admission Requests of it, has them decided, and answers in the
// asker's own protocol.
//
//	h := lambda.Handler{Tasks: ecs, Reader: read, Decider: engine, …}
//	err := lambda.NewRuntime(os.Getenv("AWS_LAMBDA_RUNTIME_API"), log).Serve(ctx, h.Handle)
//
// It asks AWS nothing but for what a hook's payload has at Amazon S3 (package aws
// does the rest), and decides nothing. What could not be decided is answered as
// OnError declares, which is to deny unless said otherwise; what is refused for
// what it is itself, being too large or of no known form, is denied whatever it
// declares.
package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxPayload bounds an invocation: Lambda permits 6 MB, and some bytes around
	// them.
	maxPayload = 6<<20 + 64<<10
	// runtimeVersion is that of the runtime interface.
	runtimeVersion = "/2018-06-01/runtime/"
	// postWithin is how long Lambda may take to accept an answer: it is on this
	// machine.
	postWithin = 10 * time.Second
	// reserve is kept of the time that Lambda gives, for the answer and the log.
	reserve = 750 * time.Millisecond
)

// Invocation is one call of the function.
type Invocation struct {
	ID       string // of the request, as Lambda has it
	Function string // ARN by which it was called
	Payload  []byte
}

// Runtime takes invocations from Lambda and gives it their answers, one at a time
// as the runtime interface has it.
type Runtime struct {
	base string
	http *http.Client
	log  *slog.Logger
}

// NewRuntime returns the client of the runtime interface at api, a host with its
// port, as AWS_LAMBDA_RUNTIME_API has it.
func NewRuntime(api string, log *slog.Logger) *Runtime {
	return &Runtime{
		base: "http://" + api + runtimeVersion,
		// The next invocation may be hours away, so there is no time limit, and no
		// proxy of the environment is between Lambda and its function.
		http: &http.Client{Transport: &http.Transport{Proxy: nil}},
		log:  log,
	}
}

// Serve answers invocations by handle until ctx ends, which is no error, or the
// runtime interface is gone. The context that handle gets ends shortly before
// Lambda would end the function. What handle returns as an error, and what it
// panics with, is an error of the invocation: all that ask take it as a refusal.
func (r *Runtime) Serve(ctx context.Context, handle func(context.Context, Invocation) ([]byte, error)) error {
	for {
		in, deadline, err := r.next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.one(ctx, in, deadline, handle); err != nil {
			return err
		}
	}
}

// InitError tells Lambda why the function cannot start.
func (r *Runtime) InitError(ctx context.Context, cause error) error {
	return r.post(ctx, "init/error", errorBody(cause), errorType(cause))
}

func (r *Runtime) next(ctx context.Context) (in Invocation, deadline time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"invocation/next", nil)
	if err != nil {
		return in, deadline, fmt.Errorf("take invocation: %w", err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return in, deadline, fmt.Errorf("take invocation: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return in, deadline, fmt.Errorf("take invocation: the runtime interface answers %s", resp.Status)
	}
	in.ID = resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
	in.Function = resp.Header.Get("Lambda-Runtime-Invoked-Function-Arn")
	if in.ID == "" {
		return in, deadline, errors.New("take invocation: it has no request id")
	}
	if ms, err := strconv.ParseInt(resp.Header.Get("Lambda-Runtime-Deadline-Ms"), 10, 64); err == nil {
		deadline = time.UnixMilli(ms)
	}
	if in.Payload, err = io.ReadAll(io.LimitReader(resp.Body, maxPayload+1)); err != nil {
		return in, deadline, fmt.Errorf("take invocation %s: %w", in.ID, err)
	}
	return in, deadline, nil
}

// one answers one invocation.
func (r *Runtime) one(ctx context.Context, in Invocation, deadline time.Time, handle func(context.Context, Invocation) ([]byte, error)) error {
	within, cancel := ctx, func() {}
	if !deadline.IsZero() {
		within, cancel = context.WithDeadline(ctx, deadline.Add(-reserve))
	}
	answer, err := guarded(within, in, handle)
	cancel()
	at := "invocation/" + url.PathEscape(in.ID)
	if err != nil {
		r.log.Error("invocation failed", "request_id", in.ID, "error", shown(err.Error()), "remedy", fault.Remedy(err))
		return r.post(ctx, at+"/error", errorBody(err), errorType(err))
	}
	return r.post(ctx, at+"/response", answer, "")
}

// guarded makes an error of a panic, so that one hostile payload does not cost the
// next asker a cold start.
func guarded(ctx context.Context, in Invocation, handle func(context.Context, Invocation) ([]byte, error)) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, fmt.Errorf("answer invocation: panic: %v", p)
		}
	}()
	if len(in.Payload) > maxPayload {
		return nil, fault.New(fault.Invalid, "the payload has more than %d bytes", maxPayload)
	}
	return handle(ctx, in)
}

func (r *Runtime) post(ctx context.Context, path string, body []byte, kind string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), postWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("answer invocation: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if kind != "" {
		req.Header.Set("Lambda-Runtime-Function-Error-Type", kind)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return fmt.Errorf("answer invocation: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxPayload))
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode/100 == 4:
		// It was too late, or too large: there is a next one.
		r.log.Error("answer not accepted", "path", path, "status", resp.StatusCode)
		return nil
	}
	return fmt.Errorf("answer invocation: the runtime interface answers %s", resp.Status)
}

// errorBody is an error as Lambda shows it to whoever called.
func errorBody(err error) []byte {
	text := err.Error()
	if remedy := fault.Remedy(err); remedy != "" {
		text += "; " + remedy
	}
	b, _ := json.Marshal(struct { // of strings: it cannot fail
		Message string   `json:"errorMessage"`
		Type    string   `json:"errorType"`
		Trace   []string `json:"stackTrace"`
	}{shown(text), errorType(err), []string{}})
	return b
}

func errorType(err error) string {
	if k := fault.Of(err); k != fault.Unknown {
		return "Castellan." + k.String()
	}
	return "Castellan.Error"
}

// maxShown bounds one text of a log or an answer that somebody else wrote.
const maxShown = 1 << 10

// shown is a text that somebody else wrote, as one may print it.
func shown(s string) string {
	return untrusted.Text(untrusted.Clip(s, maxShown))
}
