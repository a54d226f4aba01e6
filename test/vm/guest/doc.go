// Package guest holds the tests that run inside the virtual machine of test/vm,
// as the first process of its kernel.
//
// On any other machine its test program says so and does nothing: it would
// mount, load modules and deny programs.
package guest

// Marker is the file by which the test program knows the machine it may take
// over.
const Marker = "/castellan-guest"

// Where the host side puts what the tests need.
const (
	Tests   = "/guest.test"  // the test program of this package
	Subject = "/bin/subject" // the program of guest/subject
	Modules = "/modules"     // kernel modules, loaded in the order of their names
	// Interpreters is the folder of programs of every image's that, under the names of
	// interpreters, do what is in the file that is their last argument or its end.
	Interpreters = "/interpreters/"
	Image        = "/image"  // what every container's image has beside the subject
	Policy       = "/policy" // AppArmor policy in binary form, of the profile in confined.apparmor
)
