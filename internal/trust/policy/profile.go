package policy

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// maxProfile bounds an ARN of AWS Signer; AWS's own have 2,048 characters at most.
	maxProfile = 2048
	// ProfileForms says how a signing profile is written; they are those of trust
	// policies of Notation.
	ProfileForms = "arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME, with /VERSION behind it if only that is meant; " +
		"arn:aws:signer:REGION::/aliased-signing-profiles/NAME; or arn:aws:signer:::/aliases/NAME"
)

// CheckProfile says what is wrong with the ARN of a signing profile of AWS Signer:
// of a profile, of a version of it, of one that AWS holds under an alias, or of that
// alias, which belongs to no region and no account.
func CheckProfile(arn string) error {
	p := strings.SplitN(arn, ":", 6)
	switch {
	case len(arn) > maxProfile:
		return fmt.Errorf("an ARN of %d characters, and at most %d are read", len(arn), maxProfile)
	case strings.ContainsFunc(arn, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fmt.Errorf("%q has characters that no ARN has", arn)
	case strings.Contains(arn, "*"):
		return fmt.Errorf(`%q: "*" has no meaning in a profile, as it would be whoever can name one`, arn)
	case len(p) != 6 || p[0] != "arn" || !strings.HasPrefix(p[1], "aws"):
		return fmt.Errorf("%q is no ARN", arn)
	case p[2] != "signer":
		return fmt.Errorf("%q is an ARN of %s, and not of AWS Signer", arn, p[2])
	}
	path, ok := strings.CutPrefix(p[5], "/")
	if !ok {
		return fmt.Errorf("%q lacks the slash before %.60s", arn, p[5])
	}
	parts := strings.Split(path, "/")
	for _, part := range parts[1:] {
		if part == "" {
			return fmt.Errorf("%q has an empty name", arn)
		}
	}
	switch n := len(parts) - 1; {
	case parts[0] == "aliased-signing-profiles" && n == 1 && p[4] == "":
		return inAccount(arn, p[3], "000000000000") // AWS holds it, and names nobody's account
	case parts[0] == "signing-profiles" && (n == 1 || n == 2), parts[0] == "aliased-signing-profiles" && n == 1:
		return inAccount(arn, p[3], p[4])
	case parts[0] == "aliases" && n == 1:
		if p[3]+p[4] != "" {
			return fmt.Errorf("%q: an alias belongs to no region and no account", arn)
		}
		return nil
	case parts[0] == "signing-jobs":
		return errors.New("it is the ARN of a signing job, which signs one image")
	}
	return fmt.Errorf("%q is no signing profile", arn)
}

// inAccount wants an ARN to name a region and an account.
func inAccount(arn, region, account string) error {
	if region == "" || len(account) != 12 || strings.Trim(account, "0123456789") != "" {
		return fmt.Errorf("%q names no region, or no account of twelve digits", arn)
	}
	return nil
}
