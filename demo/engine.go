package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// The labels by which the demo knows its own. The shop's parts carry "shop",
// what an attack brings carries "attack".
const (
	label       = "castellan.demo"
	labelShop   = label + "=shop"
	labelAttack = label + "=attack"
	// labelContent holds what an image was made from, so that an unchanged one
	// is not made again.
	labelContent = "castellan.demo.content"
	network      = "castellan-demo"
	secrets      = "castellan-demo-secrets" // volume
)

// docker runs the docker command and returns its standard output without the
// last line's end.
func docker(ctx context.Context, args ...string) (string, error) { return dockerIn(ctx, nil, args...) }

func dockerIn(ctx context.Context, in io.Reader, args ...string) (string, error) {
	var out, problem bytes.Buffer
	command := exec.CommandContext(ctx, "docker", args...)
	command.Stdin, command.Stdout, command.Stderr = in, &out, &problem
	if err := command.Run(); err != nil {
		if text := strings.TrimSpace(problem.String()); text != "" {
			err = fmt.Errorf("%s (%w)", text, err)
		}
		return "", fmt.Errorf("docker %s: %w", args[0], err)
	}
	return strings.TrimSpace(out.String()), nil
}

func engineAnswers(ctx context.Context) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("the docker command is missing; install it with: apt-get install docker.io")
	}
	if _, err := docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return fmt.Errorf("no Docker engine answers; start it, or name another in DOCKER_HOST: %w", err)
	}
	return nil
}

// removeContainers removes the demo's containers, network and volume, those
// that attacks left behind included.
func removeContainers(ctx context.Context) error {
	return errors.Join(
		removeAll(ctx, []string{"ps", "-aq", "--filter", "label=" + label}, "rm", "-fv"),
		removeAll(ctx, []string{"network", "ls", "-q", "--filter", "label=" + label}, "network", "rm"),
		removeAll(ctx, []string{"volume", "ls", "-q", "--filter", "label=" + label}, "volume", "rm"),
	)
}

func removeImages(ctx context.Context) error {
	return removeAll(ctx, []string{"image", "ls", "-aq", "--filter", "label=" + label}, "image", "rm", "-f")
}

// removeAll runs the remove command with whatever the list command prints.
func removeAll(ctx context.Context, list []string, remove ...string) error {
	out, err := docker(ctx, list...)
	if err != nil || out == "" {
		return err
	}
	_, err = docker(ctx, append(remove, unique(strings.Fields(out))...)...)
	return err
}

// unique drops repetitions: an image with two names is listed twice.
func unique(ids []string) []string {
	seen := map[string]bool{}
	var once []string
	for _, id := range ids {
		if !seen[id] {
			once, seen[id] = append(once, id), true
		}
	}
	return once
}
