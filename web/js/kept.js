// What this browser remembers: language and theme. A browser that forbids it forgets them.

export function kept(name) {
  try {
    return localStorage.getItem(`bloom-${name}`);
  } catch {
    return null;
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(`bloom-${name}`, value);
  } catch {
    // Then it holds until the page is closed.
  }
}
