package advisory

import "time"

// Exploitability is what somebody states about one weakness in certain products:
// a statement of a VEX document (Vulnerability Exploitability eXchange, such as
// OpenVEX). Unlike an Advisory it speaks of products as they are shipped, and
// its word is the author's alone.
type Exploitability struct {
	// Vulnerability is the name of the weakness, as a rule a CVE number; Aliases
	// are its other names.
	Vulnerability string
	Aliases       []string
	// Products are package URLs, of packages with or without a version or of
	// images (pkg:oci/…), or digests of images ("sha256:…"). A statement without
	// products says nothing.
	Products []string
	// Subcomponents, where given, are the package URLs of what in the products
	// the statement is about; without them it is about the products themselves.
	Subcomponents []string
	Status        string // one of VEX's four
	// Justification is one of the machine-readable reasons of VEX
	// ("vulnerable_code_not_present", …); Impact says it in words.
	Justification string
	Impact        string
	// Action is what to do about it, for what is affected.
	Action    string
	Timestamp time.Time // when it was last stated; a later statement overrules
	Author    string
}

// The statuses of VEX.
const (
	VEXNotAffected        = "not_affected"
	VEXAffected           = "affected"
	VEXFixed              = "fixed"
	VEXUnderInvestigation = "under_investigation"
)
