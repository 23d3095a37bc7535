package store

// parseEUI reads 16 hexadecimal digits in upper case. As a number a DevEUI
// takes a third of the memory of its text and is found faster.
func parseEUI(s string) (uint64, bool) {
	if len(s) != 16 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | uint64(c)
	}
	return n, true
}

// formatEUI writes 16 hexadecimal digits in upper case.
func formatEUI(n uint64) string {
	const digits = "0123456789ABCDEF"
	var b [16]byte
	for i := range b {
		b[15-i] = digits[n&0xf]
		n >>= 4
	}
	return string(b[:])
}
