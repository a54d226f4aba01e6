package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// release is the Debian that the storefront stands on.
const release = "bookworm"

// unwanted are folders that a container has no use for.
var unwanted = []string{"./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/lib/apt/lists/*",
	"./var/log/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"}

// debianBase returns the path of a tar file with the root of a small Debian. It
// makes one when the cache has none: that needs root, Debian's packages from
// the network, and about a minute.
func debianBase(ctx context.Context, cache string) (string, error) {
	base := filepath.Join(cache, release+".tar")
	if _, err := os.Stat(base); err == nil {
		return base, nil
	}
	if os.Geteuid() != 0 {
		return "", errors.New("the first start makes a small Debian with debootstrap, which needs root; run it once as root")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return "", errors.New("debootstrap is missing; install it with: apt-get install debootstrap")
	}
	say("making a small Debian with debootstrap; this happens once and takes about a minute")
	root, err := os.MkdirTemp(cache, release+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	if err := quietly(ctx, "debootstrap", "--variant=minbase", release, root); err != nil {
		return "", err
	}
	args := []string{"--create", "--numeric-owner", "--file", base + ".part", "--directory", root}
	for _, u := range unwanted {
		args = append(args, "--exclude="+u)
	}
	if err := quietly(ctx, "tar", append(args, ".")...); err != nil {
		return "", err
	}
	return base, os.Rename(base+".part", base)
}

// quietly runs a command whose output is of interest only when it fails.
func quietly(ctx context.Context, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, tail(out))
	}
	return nil
}

// tail returns the end of a long output.
func tail(out []byte) []byte {
	const enough = 2_000
	return out[max(0, len(out)-enough):]
}
