// Command demo runs a small shop as real containers that carry the labels of
// Amazon ECS, to be watched by castellan and attacked by demo/attacks.
//
//	go run ./demo up      build the images, start the shop, wait for an order
//	go run ./demo down    remove everything that up and the attacks made
//
// It needs root for the first start (debootstrap), a Docker engine, and the Go
// tool in this source tree. It uses no registry, and of the network only
// Debian's packages, once. See docs/demo.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const usage = `usage: go run ./demo [-port N] up|down|prepare

  up       build the images, start the shop, wait until it serves an order
  down     remove what up and the attacks made: containers, network, volume, images
  prepare  only make what needs the network and takes long; up does it too

DOCKER_HOST names the Docker engine, as for the docker command.
Exit codes: 0 done, 1 failed, 2 usage.
`

// patience bounds the whole of a command; the first start of all takes one or
// two minutes.
const patience = 15 * time.Minute

func main() {
	port := flag.Int("port", 8680, "port of the storefront on 127.0.0.1")
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage); flag.PrintDefaults() }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	var err error
	switch flag.Arg(0) {
	case "up":
		err = up(ctx, *port)
	case "down":
		err = down(ctx)
	case "prepare":
		err = prepareOnly(ctx)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// say tells the person who started the demo what goes on.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func up(ctx context.Context, port int) error {
	if err := engineAnswers(ctx); err != nil {
		return err
	}
	cache, err := cacheFolder()
	if err != nil {
		return err
	}
	if err := removeContainers(ctx); err != nil {
		return err
	}
	if err := portFree(ctx, port); err != nil {
		return err
	}
	p, err := prepare(ctx, cache)
	if err != nil {
		return err
	}
	if err := buildImages(ctx, p); err != nil {
		return err
	}
	say("starting the shop")
	if err := startShop(ctx, port); err != nil {
		return err
	}
	if err := waitForOrder(ctx, port); err != nil {
		return err
	}
	return tell(ctx, port)
}

// prepareOnly fills the cache; it needs no engine.
func prepareOnly(ctx context.Context) error {
	cache, err := cacheFolder()
	if err != nil {
		return err
	}
	_, err = prepare(ctx, cache)
	return err
}

// down removes what carries the demo's label. The cache of built images stays:
// it makes the next start quick, and it is a folder that anybody may delete.
func down(ctx context.Context) error {
	if err := engineAnswers(ctx); err != nil {
		return err
	}
	err := errors.Join(removeContainers(ctx), removeImages(ctx))
	cache, cacheErr := cacheFolder()
	if err = errors.Join(err, cacheErr); err != nil {
		return err
	}
	say("the demo is gone; what it was built from is kept in %s", cache)
	return nil
}

// cacheFolder returns the folder where the demo keeps what takes long to make.
func cacheFolder() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	dir := filepath.Join(base, "castellan", "demo")
	return dir, os.MkdirAll(dir, 0o700)
}
