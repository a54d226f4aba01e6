// Command castellan-lambda guards deployments from within AWS Lambda: it answers
// ECS's service deployment hook, CloudFormation's hook and what EventBridge tells
// of tasks. It is configured by its environment alone (see config.go, and
// docs/admission-aws.md), and decides by asking Castellan's server, or alone by a
// signed bundle.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/lambda"
	"github.com/castellan-security/castellan/internal/fault"
)

// release is set when it is built.
var release = "dev"

// startWithin is how long everything may take that is done before the first
// invocation: Lambda gives ten seconds.
const startWithin = 8 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	if err := run(ctx, os.Getenv, log); err != nil {
		log.Error("ended", "error", err.Error(), "remedy", fault.Remedy(err))
		os.Exit(1)
	}
}

// run serves invocations until ctx ends.
func run(ctx context.Context, getenv func(string) string, log *slog.Logger) error {
	api := getenv("AWS_LAMBDA_RUNTIME_API")
	if api == "" {
		return fault.New(fault.Invalid, "AWS_LAMBDA_RUNTIME_API is not set: this program runs in AWS Lambda").
			With("deploy it with deploy/admission/cloudformation.yaml")
	}
	runtime := lambda.NewRuntime(api, log)
	h, err := prepare(ctx, getenv, log)
	if err != nil {
		if told := runtime.InitError(ctx, err); told != nil {
			err = errors.Join(err, fmt.Errorf("tell Lambda of it: %w", told))
		}
		return err
	}
	return runtime.Serve(ctx, h.Handle)
}

// prepare introduces the doors to one another. A configuration that is wrong ends
// the function before it answers anything: all that ask take that as a refusal.
func prepare(ctx context.Context, getenv func(string) string, log *slog.Logger) (*lambda.Handler, error) {
	c, err := readConfig(getenv)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	decider, err := newDecider(ctx, c, log)
	if err != nil {
		return nil, err
	}
	ecs := aws.NewECS(log)
	h := &lambda.Handler{
		Tasks: ecs, Images: aws.NewECR(log), Read: readDocument, Decider: decider, Objects: lambda.Objects{Endpoint: aws.S3Endpoint()}, Log: log,
		OnError: c.onError, Within: c.within, Asks: c.asks, Spared: c.spared,
	}
	if c.readRoles {
		h.Roles = aws.NewIAM(log)
	}
	if c.stopTasks {
		h.Stopper = ecs
	}
	log.Info("ready", "release", release, "server", c.server, "bundle", c.bundle, "on_error", string(c.onError), "stop_tasks", c.stopTasks)
	return h, nil
}

// newDecider returns what decides: the server, or this function alone.
func newDecider(ctx context.Context, c config, log *slog.Logger) (lambda.Decider, error) {
	if c.server != "" {
		token, err := aws.Secret(ctx, c.tokenSecret, log)
		if err != nil {
			return nil, err
		}
		return newServer(c.server, c.fingerprint, token)
	}
	return newAlone(c, aws.NewS3(log), log)
}
