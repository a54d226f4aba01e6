package threat

import (
	"fmt"
	"regexp"
)

// Tactic is what an attacker wants by it, in the words of MITRE ATT&CK.
type Tactic string

// The tactics of ATT&CK's matrix for containers, and those of its matrices for Linux
// and for clouds that are seen in containers too.
const (
	InitialAccess       Tactic = "initial-access"
	Execution           Tactic = "execution"
	Persistence         Tactic = "persistence"
	PrivilegeEscalation Tactic = "privilege-escalation"
	DefenseEvasion      Tactic = "defense-evasion"
	CredentialAccess    Tactic = "credential-access"
	Discovery           Tactic = "discovery"
	LateralMovement     Tactic = "lateral-movement"
	Collection          Tactic = "collection"
	CommandAndControl   Tactic = "command-and-control"
	Exfiltration        Tactic = "exfiltration"
	Impact              Tactic = "impact"
)

// Tactics lists them in the order of an attack.
func Tactics() []Tactic {
	return []Tactic{InitialAccess, Execution, Persistence, PrivilegeEscalation, DefenseEvasion, CredentialAccess,
		Discovery, LateralMovement, Collection, CommandAndControl, Exfiltration, Impact}
}

// technique is the form of the id of a technique or of a part of one.
var technique = regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`)

// CheckTechnique returns an error where id is not of ATT&CK's form. It does not know
// which there are.
func CheckTechnique(id string) error {
	if !technique.MatchString(id) {
		return fmt.Errorf("technique %q: want one of MITRE ATT&CK, such as T1611 or T1059.004", id)
	}
	return nil
}
