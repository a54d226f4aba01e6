// Command bench measures Castellan on this machine and prints one table:
// ratios of the same work with the agent on and off, in one run, beside the
// aims. It needs root, bin/castellan, nginx and wrk; `make bench` sees to that.
//
// It is not a test: nothing fails because a machine is slow or busy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what a run can be told.
type options struct {
	program string        // path of castellan
	dir     string        // scratch folder
	rounds  int           // of each on/off pair
	span    time.Duration // of one measurement
	events  int64         // in the database whose pages are timed
	only    string        // names of sections, with commas between; empty is all
	part    string        // of the section
	peers   string        // folder with programs of other scanners
	// agents and fleetRate are the simulated fleet: how many, and the events a
	// second of all together.
	agents, fleetRate int
	engine            string // socket of the engine that agents follow; "" is none
}

// row is one line of the table.
type row struct{ what, figure, aim string }

func main() {
	// Much of the work is done by this program started again: inside a container's
	// cgroup, or to be measured.
	if len(os.Args) > 1 && again(os.Args[1], os.Args[2:]) {
		return
	}
	var o options
	flag.StringVar(&o.program, "castellan", "bin/castellan", "program to measure")
	flag.IntVar(&o.rounds, "rounds", 9, "rounds of each pair")
	flag.DurationVar(&o.span, "span", 3*time.Second, "length of one measurement")
	flag.Int64Var(&o.events, "events", 10_000_000, "events in the database whose pages are timed")
	flag.StringVar(&o.only, "only", "", "measure these sections alone, with commas between: calls, storm, rate, nginx, behaviour, build, scan, screen, fleet, registry, store, trust, admission, detect")
	flag.StringVar(&o.peers, "peers", "", "folder with syft, osv-scanner, grype and grypedb, and cosign, to measure beside scans and signatures")
	flag.IntVar(&o.agents, "agents", fleetAgents, "simulated agents")
	flag.IntVar(&o.fleetRate, "fleet-rate", fleetRate, "events a second of all simulated agents")
	flag.StringVar(&o.part, "part", "", "measure one part of a section: pairs, known, path, town of behaviour; asked, cold, runs of admission")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// again does what this program is started again for, if command names that.
func again(command string, args []string) bool {
	var err error
	switch command {
	case stormCommand:
		err = stormMain(context.Background(), args)
	case callsCommand:
		err = callsMain(args)
	case floorCommand:
		err = floorMain(args)
	case keepCommand:
		err = keepMain(context.Background())
	case townCommand:
		err = townMain(context.Background(), args)
	case measureCommand:
		err = measureMain(args)
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	return true
}

// sections are what is measured, in the order of the table.
var sections = []struct {
	name string
	run  func(context.Context, options) ([]row, error)
}{
	{"calls", benchCalls},
	{"storm", benchStorm},
	{"rate", benchRate},
	{"nginx", benchNginx},
	{"behaviour", benchBehaviour},
	{"build", benchBuild},
	{"scan", benchScan},
	{"screen", benchScreen},
	{"fleet", benchFleet},
	{"registry", benchRegistry},
	{"store", benchStore},
	{"trust", benchTrust},
	{"admission", benchAdmission},
	{"detect", benchDetect},
}

func bench(ctx context.Context, o options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for the agent")
	}
	dir, err := os.MkdirTemp("", "castellan-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	if o.program, err = filepath.Abs(o.program); err != nil {
		return err
	}
	fmt.Printf("%s, %d cores, load %s, %s\n\n", kernelRelease(), runtime.NumCPU(), load(), time.Now().Format(time.DateOnly))
	fmt.Printf("%-58s %-28s %s\n", "WHAT", "FIGURE", "AIM")
	only := strings.Split(o.only, ",")
	var errs []error
	for _, s := range sections {
		if i := slices.Index(only, s.name); i >= 0 {
			only = slices.Delete(only, i, i+1)
		} else if o.only != "" {
			continue
		}
		rows, err := s.run(ctx, o)
		for _, r := range rows {
			fmt.Printf("%-58s %-28s %s\n", r.what, r.figure, r.aim)
		}
		fmt.Printf("  load after %-45s %s\n", s.name, load())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	if o.only != "" && len(only) > 0 {
		errs = append(errs, fmt.Errorf("there is no section %s", strings.Join(only, ", ")))
	}
	return errors.Join(errs...)
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(b))
}
