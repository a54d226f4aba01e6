//go:build !amd64

package main

import (
	"context"
	"errors"
)

// runInject needs registers and machine code of the processor; only amd64's
// are written.
func runInject(context.Context, []string) error {
	return errors.New("the injector is written for amd64 only")
}
