package probe

// Preflight says whether a Probe could begin here: ErrPermission or ErrNoBTF if not. Callers use it to fail before they
// make anything that would have to be removed again.
func Preflight() error {
	if _, err := checkPrivileges(); err != nil {
		return err
	}
	_, err := checkBTF()
	return err
}
