package keyset

import "math/big"

// rocaPrimes are the small odd primes that the faulty generator used.
var rocaPrimes = []int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// roca reports whether an RSA modulus is from the key generator whose primes
// are powers of 65537 modulo a product of small primes (Nemec et al., "The
// Return of Coppersmith's Attack", 2017): such a key can be factored. A sound
// modulus passes for one with a probability under 2⁻²⁷.
func roca(n *big.Int) bool {
	var rest big.Int
	for _, p := range rocaPrimes {
		want := rest.Mod(n, big.NewInt(p)).Int64()
		power, found := int64(1), false
		for range p {
			if power == want {
				found = true
				break
			}
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}
