package behaviour

import (
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
	"github.com/castellan-security/castellan/internal/watch"
)

// Signers names the keys of which one must sign profiles that people write, as
// castellan trust key list shows them; none where nobody has to.
func (s *Service) Signers() []string {
	out := make([]string, 0, len(s.Keys))
	for _, k := range s.Keys {
		if name, err := sealed.Fingerprint(k); err == nil { // one that has no name can't sign either
			out = append(out, name)
		}
	}
	return out
}

// signed returns which of the keys signed a text, and "" where none has to. It is
// Denied if one must have and none has.
func (s *Service) signed(e Edit) (key string, err error) {
	const remedy = "have it signed by one of them: castellan watch profile sign FILE --key NAME, and import it with --signature"
	switch {
	case len(s.Keys) == 0 && e.Signature == "":
		return "", nil
	case len(s.Keys) == 0:
		return "", fault.New(fault.Invalid, "there is a signature, and this server knows no keys of profiles").
			With("start it with --profile-keys FILE, or import the profile without")
	case e.Signature == "":
		return "", fault.New(fault.Denied, "profiles must be signed by a key of this server").With(remedy)
	}
	key, err = watch.VerifyProfile([]byte(e.Text), []byte(e.Signature), s.Keys)
	if fault.Is(err, fault.Denied) {
		return "", fault.New(fault.Denied, "%w, or the profile was changed after it was signed", err).With(remedy)
	}
	return key, err
}

// unsigned refuses what nobody can sign where profiles must be signed.
func (s *Service) unsigned(what string) error {
	if len(s.Keys) == 0 {
		return nil
	}
	return fault.New(fault.Denied, "profiles must be signed by a key of this server, and %s is not", what).
		With("export the profile, add it there, have the file signed (castellan watch profile sign), and import it with --signature")
}
