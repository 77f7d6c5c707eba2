// Small things that the browser keeps, if it keeps any: it may be told not to.

export function read(name) {
  try {
    return localStorage.getItem(`llama-medusa.${name}`) ?? "";
  } catch {
    return "";
  }
}

export function write(name, text) {
  try {
    localStorage.setItem(`llama-medusa.${name}`, text);
  } catch {
    // then it is as new the next time
  }
}
