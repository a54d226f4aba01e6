// Command evil is the attacker's side of the demo: a host that hands out
// payloads and takes in loot, and the tools that attacks bring along, in one
// static program that becomes what its first argument, or its name, says.
//
// All of it works only inside the demo: addresses are given by the attack
// scripts, every tool has a limit of time and number, and nothing spreads or
// stays. See demo/attacks.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// longest is how long any tool but the host may run.
const longest = 30 * time.Second

// tools lists what the program can do besides being the host.
var tools = map[string]struct {
	run   func(ctx context.Context, args []string) error
	usage string
}{
	"get":     {runGet, "get URL [HEADER:VALUE]    print the answer to a request"},
	"put":     {runPut, "put URL                   print the answer to an empty PUT"},
	"payload": {runPayload, "payload HOST MARK         say what runs here, and tell the host"},
	"xmrig":   {runMiner, "xmrig -o HOST:PORT -u MARK shake hands with a mining pool and hash for a moment"},
	"http":    {runHTTPFlood, "http URL                  flood with requests"},
	"syn":     {runSYNFlood, "syn HOST PORT             flood with the beginnings of connections"},
	"udp":     {runUDPFlood, "udp HOST PORT             flood with datagrams"},
	"inject":  {runInject, "inject PID FILE TEXT      have the process write text to a file"},
	"library": {runLibrary, "library FILE TEXT         print a shared object that writes text to a file when loaded"},
	"docker":  {runDocker, "docker SOCKET IMAGE MARK  start a container through the engine's socket"},
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if _, ok := tools[name]; !ok && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if err := run(name, args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	if name == "host" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		return runHost(ctx)
	}
	tool, ok := tools[name]
	if !ok {
		for _, t := range tools {
			fmt.Fprintln(os.Stderr, "usage: evil "+t.usage)
		}
		return fmt.Errorf("there is no tool %q", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	return tool.run(ctx, args)
}

// need returns an error unless there are at least n arguments.
func need(args []string, n int) error {
	if len(args) < n {
		return fmt.Errorf("got %d arguments, want %d", len(args), n)
	}
	return nil
}
