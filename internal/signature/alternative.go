package signature

import (
	"net/netip"
	"strings"
)

// NameForm is what a certificate's alternative name looks like. Names are told as
// text, and a policy compares text: a name of one kind must not pass for one of
// another, as an authority may be held to some kinds only.
type NameForm string

// The forms.
const (
	FormURI  NameForm = "URI"
	FormMail NameForm = "e-mail address"
	FormHost NameForm = "DNS name"
	FormIP   NameForm = "IP address"
)

// FormOf says what a name looks like, whatever it is.
func FormOf(name string) NameForm {
	if strings.Contains(name, "://") {
		return FormURI
	}
	if strings.Contains(name, "@") {
		return FormMail
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return FormIP
	}
	return FormHost
}
