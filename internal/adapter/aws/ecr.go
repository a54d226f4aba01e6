package aws

import (
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// tokenWithin is how long it may take to get a token, with all the SDK's own
	// attempts.
	tokenWithin = 20 * time.Second
	// margin is how long before its end a token is no longer given out: the
	// longest that a scan of one image should take.
	margin = 15 * time.Minute
	// tokenFor is how long a token is kept whose end is not told, far less than
	// the twelve hours that they are good for.
	tokenFor = time.Hour
	// refusedFor is how long a refusal is remembered, so that a task definition
	// with ten images asks once.
	refusedFor = time.Minute
)

// ECR gives credentials for the registries of Amazon ECR and lists what they
// hold. It can be used by several goroutines.
type ECR struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	tokens  map[registry]*token  // by registry without its account: a token is good for all
	clients map[registry]*client // of those that are watched
}

// token is what one region gave last.
type token struct {
	turn chan struct{} // held by whoever asks

	user, password string
	err            error
	until          time.Time
}

// NewECR returns the keychain. It asks nobody yet.
func NewECR(log *slog.Logger) *ECR {
	return &ECR{log: log, now: time.Now, tokens: map[registry]*token{}, clients: map[registry]*client{}}
}

// Credentials returns the user and password for a registry's host. ok is false
// for a host that is not of ECR, and for the public gallery when there are no
// credentials, which it doesn't need. Errors have a kind and a remedy.
func (e *ECR) Credentials(ctx context.Context, host string) (user, password string, ok bool, err error) {
	r, ok := parseHost(host)
	if !ok {
		return "", "", false, nil
	}
	t := e.of(r)
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", "", false, ctx.Err()
	}
	if !e.now().Before(t.until) {
		e.renew(ctx, r, t)
	}
	if r.public && fault.Is(t.err, fault.Unauthenticated) {
		e.log.Debug("no AWS credentials, asking the public gallery anonymously", "error", t.err)
		return "", "", false, nil
	}
	if t.err != nil {
		return "", "", false, t.err
	}
	return t.user, t.password, true, nil
}

func (e *ECR) of(r registry) *token {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tokens[r]
	if t == nil {
		t = &token{turn: make(chan struct{}, 1)}
		e.tokens[r] = t
	}
	return t
}

// renew asks for a token.
func (e *ECR) renew(ctx context.Context, r registry, t *token) {
	within, cancel := context.WithTimeout(ctx, tokenWithin)
	defer cancel()
	data, err := e.ask(within, r)
	if err == nil {
		t.user, t.password, err = decode(data.text)
	}
	if t.err = err; err != nil {
		t.user, t.password, t.until = "", "", e.now().Add(refusedFor)
		if ctx.Err() != nil {
			t.until = time.Time{} // the scan ended; the next one asks again
		}
		return
	}
	t.until = e.now().Add(tokenFor)
	if !data.ends.IsZero() {
		t.until = data.ends.Add(-margin)
	}
}

// authorization is what either service answers.
type authorization struct {
	text string
	ends time.Time
}

// ask gets a token from the service that gives it.
func (e *ECR) ask(ctx context.Context, r registry) (authorization, error) {
	config, err := load(ctx, r, e.log)
	if err != nil {
		return authorization{}, err
	}
	if err := identified(ctx, config); err != nil {
		return authorization{}, err
	}
	if r.public {
		out, err := ecrpublic.NewFromConfig(config).GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil {
			return authorization{}, refused("get ECR token", err, "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken", "ecr.api")
		}
		if out.AuthorizationData == nil {
			return authorization{}, errNoToken()
		}
		return authorization{sdk.ToString(out.AuthorizationData.AuthorizationToken), sdk.ToTime(out.AuthorizationData.ExpiresAt)}, nil
	}
	out, err := ecr.NewFromConfig(config).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return authorization{}, refused("get ECR token", err, "ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer", "ecr.api")
	}
	if len(out.AuthorizationData) == 0 {
		return authorization{}, errNoToken()
	}
	first := out.AuthorizationData[0]
	return authorization{sdk.ToString(first.AuthorizationToken), sdk.ToTime(first.ExpiresAt)}, nil
}

// decode reads user:password in base64.
func decode(text string) (user, password string, err error) {
	b, err := base64.StdEncoding.DecodeString(text)
	user, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok || user == "" || password == "" {
		return "", "", errNoToken() // not even a part of it is shown
	}
	return user, password, nil
}

func errNoToken() error {
	return fault.New(fault.Unavailable, "get ECR token: the answer has none that can be used").
		With("is AWS_ENDPOINT_URL set to something that is not AWS?")
}
