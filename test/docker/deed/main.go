// Command deed does one small thing, hostile or harmless, and ends: the sensors
// are to see it. It is put into an image of a test and called there by name:
//
//	deed NAME TAG
//
// The tag stands in paths and names, so that each call can be told from all
// others. It exits with 0 when the thing was done, or refused as the name says.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
)

// deed is one thing to do.
type deed func(tag string) error

func main() {
	// Namespaces, users and tracing belong to threads: only what the main one does is what
	// sensors see of the process, and later we may be on another.
	runtime.LockOSThread()
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: deed NAME TAG")
		os.Exit(2)
	}
	name, tag := os.Args[1], os.Args[2]
	for _, deeds := range []map[string]deed{files, network, privileges, programs} {
		if d := deeds[name]; d != nil {
			if err := d(tag); err != nil {
				fmt.Fprintf(os.Stderr, "deed %s: %v\n", name, err)
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintf(os.Stderr, "deed: nothing is called %q\n", name)
	os.Exit(2)
}

// refused turns the wanted error of a deed into success, and success into an
// error.
func refused(err error, wanted ...error) error {
	if err == nil {
		return fmt.Errorf("was permitted, want one of %v", wanted)
	}
	if slices.Contains(wanted, err) {
		return nil
	}
	return err
}
