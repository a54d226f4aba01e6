package main

// lend has a child make a call, and end. With the flags of clone the child shares what is
// ours. It returns the number of the child, or the negative number of an error.
//
//go:noescape
func lend(flags, call, a, b, c uintptr) (pid uintptr)
